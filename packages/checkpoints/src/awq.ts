/**
 * Reading AWQ checkpoints in the layout "GEMM", as AutoAWQ writes them: `<module>.qweight`, `.qzeros` and `.scales` for a linear, 4 bits,
 * with `quant_config.json` or `quantization_config` in config.json. Source: AutoAWQ modules/linear/gemm.py, models/_config.py.
 * @module
 */
import { AWQ_PARTS, type AwqConfig, planAwq } from './_awq-linear.js';
import { fail } from './_checks.js';
import { openPacked } from './_packed-linears.js';
import { configFields, configFlag, configInteger, configText } from './_quant-config.js';
import type { Checkpoint, SafetensorsFile } from './api.js';

const OP = 'openAwq';

export interface OpenAwqOpts {
  /** Names the configuration in errors. Default `config.json`. */
  file?: string;
}

/**
 * Opens an AWQ checkpoint: `<module>.weight` is `affine` [out, in] of 4 bits, everything else as it is. The scales that AWQ moved between
 * layers are in the weights already, so nothing is left to do with them.
 * @param physical one file or all shards; closed by the result's `close`
 * @param config contents of quant_config.json, or `quantization_config` of config.json
 * @throws LmqError as `openGptq`
 */
export function openAwq(physical: SafetensorsFile, config: unknown, { file = 'config.json' }: OpenAwqOpts = {}): Checkpoint {
  const read = readAwqConfig(config, file);
  return openPacked(physical, { format: 'awq', op: OP, parts: AWQ_PARTS }, (linear) => planAwq(linear, read));
}

function readAwqConfig(config: unknown, file: string): AwqConfig {
  const where = { op: OP, file };
  const fields = configFields(config, where);
  const method = configText(fields, ['quant_method', 'method'], where) ?? 'awq';
  if (method !== 'awq')
    fail('model/config', 'the configuration is not one of AWQ', { ...where, expected: 'quant_method awq', found: method });
  const version = configText(fields, ['version'], where) ?? 'gemm';
  if (version !== 'gemm')
    fail('model/unsupported', 'an AWQ layout that lmq does not read', {
      ...where,
      expected: 'version gemm',
      found: version,
      hint: 'Get the checkpoint with the version gemm, or quantize the original weights.',
    });
  const bits = configInteger(fields, ['bits', 'w_bit'], where);
  if (bits !== 4) fail('model/unsupported', 'AWQ has 4 bits', { ...where, expected: 4, found: bits });
  const groupSize = configInteger(fields, ['group_size', 'q_group_size'], where);
  if (groupSize !== -1 && groupSize < 1)
    fail('model/config', 'group_size out of range', { ...where, expected: '-1 for a whole row, or at least 1', found: groupSize });
  return { groupSizes: new Set([groupSize]), zeroPoint: configFlag(fields, 'zero_point', where) ?? true, file };
}
