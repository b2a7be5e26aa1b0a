/**
 * Reading GPTQ checkpoints, as AutoGPTQ and GPTQModel write them: `<module>.qweight`, `.qzeros`, `.scales` and `.g_idx` for a linear, with
 * `quantize_config.json` or `quantization_config` in config.json. Sources: AutoGPTQ nn_modules/qlinear; GPTQModel utils/model.py.
 *
 * Version 1 stores zero points less one, version 2 as they are. Nothing in the weights says which, and files with the wrong label are
 * about; in a symmetric file the zero points tell, and a label that they contradict is refused.
 * @module
 */
import { type GptqVersion, packStream, unpackGptqZeros } from '@lmq/formats';
import { checkOneOf, type ErrorFacts } from '@lmq/tensor';
import { fail } from './_checks.js';
import { bytesOf, typedView } from './_floats.js';
import { GPTQ_PARTS, type GptqConfig, readGptqConfig } from './_gptq-config.js';
import { isOrdered } from './_group-index.js';
import { allAre, formatName, type LinearPlan, openPacked, type PackedLinear, readScales, SCALES, wrongShape } from './_packed-linears.js';
import { transpose } from './_transpose.js';
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

function planGptq(linear: PackedLinear, config: GptqConfig): LinearPlan {
  const { where } = linear;
  const [words, out] = linear.shape('qweight', ['I32'], 2) as [number, number];
  const [groups, scaled] = linear.shape('scales', SCALES, 2) as [number, number];
  const [zeroRows, zeroWords] = linear.shape('qzeros', ['I32'], 2) as [number, number];
  const awq = scaled === out * 8 ? 'These are the shapes of AWQ: quant_method should be awq.' : undefined;
  if (scaled !== out) wrongShape(linear, 'scales', [groups, out], awq);
  if (out % 32 !== 0) fail('file/format', 'the outputs are not a multiple of 32', { ...where, found: out });
  const bits = (zeroWords * 32) / out; // zero points lie along the output, so their width is theirs alone
  if (!config.bits.has(bits))
    fail('model/config', 'the configuration names other bits than the shapes have', {
      ...where,
      expected: [...config.bits].join(' or '),
      found: bits,
      hint: `The bits in ${config.file} belong to another model.`,
    });
  if (zeroRows !== groups) wrongShape(linear, 'qzeros', [groups, zeroWords]);
  if (words % bits !== 0)
    fail('file/format', 'the rows of qweight are not whole runs of 32 inputs', {
      ...where,
      expected: `a multiple of ${bits}`,
      found: words,
    });
  const inputs = (words / bits) * 32;
  if (linear.parts.has('g_idx')) {
    const [n] = linear.shape('g_idx', ['I32'], 1);
    if (n !== inputs) wrongShape(linear, 'g_idx', [inputs]);
  } else if (config.descAct !== false) linear.shape('g_idx', ['I32'], 1); // without it the order of act-order is lost: says that it is missing
  const groupSize = groupSizeOf(config, inputs, groups, where);
  return {
    shape: [out, inputs],
    format: formatName(bits, groupSize, inputs),
    async read() {
      // transposed, a row of words is a row of codes: both are one stream of bits, lowest first
      const codes = bytesOf(transpose(typedView(await linear.bytes('qweight'), Int32Array), words, out));
      const scales = await readScales(linear, groups, out, groupSize);
      const zeros = unpackGptqZeros(typedView(await linear.bytes('qzeros'), Int32Array), bits, out, groups, config.version);
      const symmetric = checkZeros(zeros, bits, config, where);
      const index = linear.parts.has('g_idx') ? typedView(await linear.bytes('g_idx'), Int32Array) : undefined;
      const ordered = index === undefined || checkGroups(index, groups, groupSize, config, where);
      return {
        kind: 'affine',
        shape: [out, inputs],
        bits,
        groupSize,
        codes,
        scales,
        ...(!symmetric && { zeroPoints: packStream(zeros, bits) }),
        ...(!ordered && { groupIndex: index }),
      };
    },
  };
}

/** The one group size of the configuration that gives this many groups. */
function groupSizeOf(config: GptqConfig, inputs: number, groups: number, where: ErrorFacts): number {
  const sizes = new Set([...config.groupSizes].map((g) => (g === -1 ? inputs : Math.min(g, inputs))));
  const fitting = [...sizes].filter((g) => Math.ceil(inputs / g) === groups);
  if (fitting.length === 1) return fitting[0]!;
  return fail('model/config', fitting.length ? 'the shapes fit several group sizes' : 'the group size does not fit the shapes', {
    ...where,
    expected: `${groups} groups of ${inputs} inputs`,
    found: `group_size ${[...config.groupSizes].join(' or ')}`,
    hint: `The group size in ${config.file} belongs to another model.`,
  });
}

/** True when all zero points are in the middle. They tell the version of a symmetric file. */
function checkZeros(zeros: Uint8Array, bits: number, { sym, version, file }: GptqConfig, where: ErrorFacts): boolean {
  const middle = 2 ** (bits - 1);
  if (allAre(zeros, middle)) return true;
  if (sym === false) return false;
  const mask = 2 ** bits - 1;
  const other = version === 'v1' ? 'v2' : 'v1';
  if (allAre(zeros, (middle + (version === 'v1' ? 1 : -1)) & mask))
    fail('model/config', `the zero points are those of a symmetric file of version ${other.slice(1)}`, {
      ...where,
      op: 'read',
      expected: `${middle} as ${version} stores it`,
      found: `${zeros[0]} everywhere`,
      hint: `The label is wrong: set checkpoint_format to "${other === 'v2' ? 'gptq_v2' : 'gptq'}" in ${file}, or open with { version: '${other}' }.`,
    });
  if (sym === undefined) return false;
  return fail('model/config', 'the configuration says symmetric, the zero points do not', {
    ...where,
    op: 'read',
    expected: middle,
    found: zeros.find((z) => z !== middle),
    hint:
      bits === 3 // two lanes of 32 straddle words, and adding a constant to each word loses the carries
        ? 'Tools that convert versions word by word spoil zero points of 3 bits; quantize the model again.'
        : `Runtimes disagree on such a file. If its zero points count, set sym to false in ${file}.`,
  });
}

/** True when columns are grouped in order. */
function checkGroups(index: Int32Array, groups: number, groupSize: number, { descAct, file }: GptqConfig, where: ErrorFacts): boolean {
  const ordered = isOrdered(index, groups, groupSize, 'g_idx', where);
  if (!ordered && descAct === false)
    fail('model/config', 'g_idx is that of act-order, the configuration says there is none', {
      ...where,
      op: 'read',
      hint: `Some runtimes ignore g_idx then. Set desc_act to true in ${file}.`,
    });
  return ordered;
}
