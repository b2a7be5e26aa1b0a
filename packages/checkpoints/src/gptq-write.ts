/**
 * Writing GPTQ checkpoints: an `affine` tensor as the four of a linear, and the configuration that goes beside them.
 * @module
 */
import { type GptqVersion, packGptqZeros, zeroPointValues } from '@lmq/formats';
import { type CompressedTensor, checkInteger, checkOneOf } from '@lmq/tensor';
import { exportable } from './_affine-export.js';
import { bytesOf, typedView } from './_floats.js';
import { GPTQ_BITS } from './_gptq-config.js';
import { unevenGroup } from './_group-index.js';
import { transpose } from './_transpose.js';
import type { TensorToWrite } from './api.js';

export interface GptqTensorsOpts {
  /**
   * `v1` is what every runtime reads, but some of them get it wrong for 3 bits; it cannot hold a zero point of 0. `v2` holds everything, and
   * needs a runtime that knows `gptq_v2`.
   */
  version: GptqVersion;
}

/**
 * `<module>.qweight`, `.qzeros`, `.scales` and `.g_idx` of the weight `<module>.weight`, codes and scales as they are. A bias is written
 * beside them like any other tensor.
 * @throws LmqError `export/unsupported` for what the format cannot hold: other layouts, bits other than 2, 3, 4, 8, `out` or `in` that is
 * not a multiple of 32, scales that are not fp16 or bf16, groups of uneven numbers of columns, a zero point of 0 in `v1`; `argument/*`
 */
export function toGptqTensors(name: string, tensor: CompressedTensor, { version }: GptqTensorsOpts): TensorToWrite[] {
  const op = 'toGptqTensors';
  checkOneOf(version, 'version', ['v1', 'v2'], op);
  const { module, t, out, inputs, groups, scales, refuse } = exportable(name, tensor, op);
  const { bits, codes, groupSize } = t;
  if (!GPTQ_BITS.includes(bits)) refuse('codes of this width cannot be stored', '2, 3, 4 or 8 bits', bits);
  if (inputs % 32 !== 0)
    refuse('the number of inputs is not a multiple of 32', 'a multiple of 32', inputs, 'Leave this weight unquantized.');
  if (out % 32 !== 0) refuse('the number of outputs is not a multiple of 32', 'a multiple of 32', out, 'Leave this weight unquantized.');
  const zeros = zeroPointValues(t, 0, out * groups);
  const none = version === 'v1' ? zeros.indexOf(0) : -1;
  if (none >= 0) refuse('version 1 cannot hold a zero point of 0', 'at least 1', `0 in row ${Math.floor(none / groups)}`, 'Write v2.');
  const index = t.groupIndex ?? Int32Array.from({ length: inputs }, (_, c) => Math.floor(c / groupSize));
  const uneven = unevenGroup(index, groups, groupSize);
  if (uneven >= 0)
    refuse('a group does not have its number of columns', `${groupSize} columns a group`, `another number in group ${uneven}`);
  const words = (inputs / 32) * bits;
  return [
    {
      name: `${module}.qweight`,
      shape: [words, out],
      dtype: 'I32',
      bytes: () => bytesOf(transpose(typedView(codes, Int32Array), out, words)),
    },
    {
      name: `${module}.qzeros`,
      shape: [groups, (out / 32) * bits],
      dtype: 'I32',
      bytes: () => bytesOf(packGptqZeros(zeros, bits, out, groups, version)),
    },
    scales,
    { name: `${module}.g_idx`, shape: [inputs], dtype: 'I32', bytes: () => bytesOf(index) },
  ];
}

export interface GptqConfigOpts extends GptqTensorsOpts {
  bits: number;
  /** Input columns that share a scale; -1 for a whole row. */
  groupSize: number;
  /** True when all zero points are in the middle, `2 ** (bits - 1)`. Some runtimes do not look at them then. */
  sym: boolean;
  /** True when some tensor has a `groupIndex`. Some runtimes do not look at `g_idx` when it is false. */
  descAct: boolean;
  /** True when the output head is quantized too. Default false. */
  lmHead?: boolean;
  /** Linears of other bits or groups than the rest, as rules of `dynamic`, which GPTQModel and vLLM follow. Default none. */
  overrides?: readonly { module: string; bits: number; groupSize: number }[];
  /** Linears whose weights are not quantized, as full names; also rules of `dynamic`. Default none. */
  modulesToNotConvert?: readonly string[];
}

/**
 * The configuration of a GPTQ checkpoint: `quantization_config` of config.json, and the contents of quantize_config.json.
 * @throws LmqError `argument/option`
 */
export function gptqConfig(opts: GptqConfigOpts): Record<string, unknown> {
  const op = 'gptqConfig';
  const { bits, groupSize, sym, descAct, version, lmHead = false, overrides = [], modulesToNotConvert = [] } = opts;
  for (const o of [{ bits, groupSize }, ...overrides]) {
    checkOneOf(String(o.bits), 'bits', ['2', '3', '4', '8'], op);
    if (o.groupSize !== -1) checkInteger(o.groupSize, 'groupSize', 1, 2 ** 32, op);
  }
  checkOneOf(version, 'version', ['v1', 'v2'], op);
  // regular expressions, matched from the start of a module's name
  const rule = (module: string) => `^${module.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`;
  const rules = [
    ...modulesToNotConvert.map((module) => [`-:${rule(module)}`, {}] as const),
    ...overrides.map((o) => [`+:${rule(o.module)}`, { bits: o.bits, group_size: o.groupSize }] as const),
  ];
  return {
    quant_method: 'gptq',
    bits,
    group_size: groupSize,
    sym,
    desc_act: descAct,
    lm_head: lmHead,
    checkpoint_format: version === 'v1' ? 'gptq' : 'gptq_v2',
    pack_dtype: 'int32',
    ...(rules.length && { dynamic: Object.fromEntries(rules) }),
  };
}
