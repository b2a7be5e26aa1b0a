/**
 * Reading GPTQ checkpoints, as AutoGPTQ and GPTQModel write them: `<module>.qweight`, `.qzeros`, `.scales` and `.g_idx` for a linear, with
 * `quantize_config.json` or `quantization_config` in config.json. Sources: AutoGPTQ nn_modules/qlinear; GPTQModel utils/model.py.
 *
 * Version 1 stores zero points less one, version 2 as they are. Nothing in the weights says which, and files with the wrong label are
 * about; in a symmetric file the zero points tell, and a label that they contradict is refused.
 * @module
 */
import type { GptqVersion } from '@lmq/formats';
import { checkOneOf } from '@lmq/tensor';
import { GPTQ_PARTS, readGptqConfig } from './_gptq-config.js';
import { planGptq } from './_gptq-linear.js';
import { openPacked } from './_packed-linears.js';
import type { Checkpoint, SafetensorsFile } from './api.js';

const OP = 'openGptq';

export interface OpenGptqOpts {
  /** How zero points are stored, when the configuration has it wrong. Default: what the configuration says. */
  version?: GptqVersion;
  /** Names the configuration in errors. Default `config.json`. */
  file?: string;
}

/**
 * Opens a GPTQ checkpoint of 2, 3, 4 or 8 bits: `<module>.weight` is `affine` [out, in], everything else as it is.
 * @param physical one file or all shards; closed by the result's `close`
 * @param config contents of quantize_config.json, or `quantization_config` of config.json. Rules of `dynamic` only widen what a linear may
 * be: bits and group size follow from its shapes
 * @throws LmqError `model/unsupported` for a variant that is not read, `model/config` for a configuration that contradicts itself or the
 * file, `file/format` for parts that are missing, left over or do not fit. `read` throws the last two as well, for what data shows:
 * a group that is none, zero points of the other version, act-order where the configuration says none
 */
export function openGptq(physical: SafetensorsFile, config: unknown, opts: OpenGptqOpts = {}): Checkpoint {
  const file = opts.file ?? 'config.json';
  const read = readGptqConfig(config, OP, file);
  if (opts.version !== undefined) read.version = checkOneOf(opts.version, 'version', ['v1', 'v2'], OP);
  return openPacked(physical, { format: 'gptq', op: OP, parts: GPTQ_PARTS }, (linear) => planGptq(linear, read));
}
