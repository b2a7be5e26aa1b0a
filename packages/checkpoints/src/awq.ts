/**
 * Reading AWQ checkpoints in the layout "GEMM", as AutoAWQ writes them: `<module>.qweight`, `.qzeros` and `.scales` for a linear, 4 bits,
 * with `quant_config.json` or `quantization_config` in config.json. Source: AutoAWQ modules/linear/gemm.py, models/_config.py.
 * @module
 */
import { packRows, packStream, unpackAwq } from '@lmq/formats';
import { fail } from './_checks.js';
import { typedView } from './_floats.js';
import { allAre, formatName, type LinearPlan, openPacked, type PackedLinear, readScales, SCALES, wrongShape } from './_packed-linears.js';
import { configFields, configFlag, configInteger, configText } from './_quant-config.js';
import type { Checkpoint, SafetensorsFile } from './api.js';

const OP = 'openAwq';

const AWQ_PARTS = ['qweight', 'qzeros', 'scales'] as const;

export interface OpenAwqOpts {
  /** Names the configuration in errors. Default `config.json`. */
  file?: string;
}

interface AwqConfig {
  /** -1 is a whole row. */
  groupSize: number;
  zeroPoint: boolean;
  file: string;
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
  return { groupSize, zeroPoint: configFlag(fields, 'zero_point', where) ?? true, file };
}

function planAwq(linear: PackedLinear, config: AwqConfig): LinearPlan {
  const { where } = linear;
  const [inputs, words] = linear.shape('qweight', ['I32'], 2) as [number, number];
  const [groups, out] = linear.shape('scales', SCALES, 2) as [number, number];
  linear.shape('qzeros', ['I32'], 2);
  if (words * 8 !== out) {
    const gptq = words === out ? 'These are the shapes of GPTQ: quant_method should be gptq.' : undefined;
    wrongShape(linear, 'scales', [groups, words * 8], gptq);
  }
  const [zeroRows, zeroWords] = linear.parts.get('qzeros')!.shape;
  if (zeroRows !== groups || zeroWords !== words) wrongShape(linear, 'qzeros', [groups, words]);
  const groupSize = config.groupSize === -1 ? inputs : config.groupSize;
  if (inputs !== groups * groupSize)
    fail('model/config', 'the group size does not fit the shapes', {
      ...where,
      expected: `${groups} groups of ${inputs} inputs`,
      found: `group_size ${config.groupSize}`,
      hint: `The group size in ${config.file} belongs to another model.`,
    });
  return {
    shape: [out, inputs],
    format: formatName(4, groupSize, inputs),
    async read() {
      const codes = packRows(unpackAwq(typedView(await linear.bytes('qweight'), Int32Array), out, inputs), 4, out, inputs);
      const scales = await readScales(linear, groups, out, groupSize);
      const zeros = unpackAwq(typedView(await linear.bytes('qzeros'), Int32Array), out, groups);
      const symmetric = allAre(zeros, 8);
      if (!symmetric && !config.zeroPoint)
        fail('model/config', 'the configuration says symmetric, the zero points do not', {
          ...where,
          op: 'read',
          expected: 8,
          found: zeros.find((z) => z !== 8),
          hint: `Runtimes disagree on such a file. If its zero points count, set zero_point to true in ${config.file}.`,
        });
      return {
        kind: 'affine',
        shape: [out, inputs],
        bits: 4,
        groupSize,
        codes,
        scales,
        ...(!symmetric && { zeroPoints: packStream(zeros, 4) }),
      };
    },
  };
}
