/**
 * A linear as GPTQ checkpoints store it.
 * @module
 */
import { packStream, unpackGptqZeros } from '@lmq/formats';
import type { ErrorFacts } from '@lmq/tensor';
import { fail } from './_checks.js';
import { bytesOf, typedView } from './_floats.js';
import type { GptqConfig } from './_gptq-config.js';
import { fittingGroupSize, isOrdered } from './_group-index.js';
import { allAre, formatName, type LinearPlan, type PackedLinear, readScales, SCALES, wrongShape } from './_packed-linears.js';
import { transpose } from './_transpose.js';

/** Checks a linear's shapes against each other and the configuration. */
export function planGptq(linear: PackedLinear, config: GptqConfig): LinearPlan {
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
  const groupSize = fittingGroupSize(config, inputs, groups, where);
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
