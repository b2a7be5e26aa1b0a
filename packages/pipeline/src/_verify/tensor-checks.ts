/**
 * Checks of one tensor's data. Readers have checked what every reader must; these look at what is legal and still wrong.
 * @module
 */
import type { TensorInfo } from '@lmq/checkpoints';
import { countNonFinite, isFloatZeros, rowBytes, scaleRows, scaleValues, unpackInto, zeroPointValues, zeroValues } from '@lmq/formats';
import type { Affine, CompressedTensor } from '@lmq/tensor';
import { error, type Finding, warning } from './finding.js';

type TensorCheck = (t: CompressedTensor, info: TensorInfo, format: string) => Finding | undefined;

export const TENSOR_CHECKS: readonly TensorCheck[] = [finite, padding, groups, symmetry, wrappedZeros, deadScales, magnitudes];

function finite(t: CompressedTensor, { name: tensor, file }: TensorInfo): Finding | undefined {
  const count = countNonFinite(t);
  return count ? error('finite', `${count} stored numbers are NaN or infinite`, { tensor, file }) : undefined;
}

function padding(t: CompressedTensor, { name: tensor, file }: TensorInfo): Finding | undefined {
  if (t.kind !== 'affine' && t.kind !== 'lut') return undefined;
  const [rows, cols] = t.shape;
  const step = rowBytes(cols, t.bits);
  const used = (cols * t.bits) % 8;
  if (used)
    for (let r = 0; r < rows; r++)
      if (t.codes[r * step + step - 1]! >> used) return error('padding', `bits behind the codes of row ${r} are not 0`, { tensor, file });
  const zeros = t.kind === 'affine' && !isFloatZeros(t.zeroPoints) ? t.zeroPoints : undefined;
  const rest = t.kind === 'affine' && zeros ? (scaleCount(t) * t.bits) % 8 : 0;
  if (zeros && rest && zeros.at(-1)! >> rest) return error('padding', 'bits behind the zero points are not 0', { tensor, file });
  return undefined;
}

function groups(t: CompressedTensor, { name: tensor, file }: TensorInfo): Finding | undefined {
  if (t.kind !== 'affine' || !t.groupIndex) return undefined;
  const count = new Uint32Array(Math.ceil(t.shape[1] / t.groupSize));
  for (const g of t.groupIndex) count[g]!++;
  const uneven = count.findIndex((n, g) => n !== Math.min(t.groupSize, t.shape[1] - g * t.groupSize));
  return uneven < 0 ? undefined : error('groups', `group ${uneven} has ${count[uneven]} columns`, { tensor, file });
}

/** Only our own format says for each tensor whether it has zero points; labels of others are of the whole model. */
function symmetry(t: CompressedTensor, { name: tensor, file }: TensorInfo, format: string): Finding | undefined {
  if (format !== 'lmq' || t.kind !== 'affine' || !t.zeroPoints) return undefined;
  const middle = 2 ** (t.bits - 1);
  const all = zeroValues(t, 0, scaleCount(t)).every((z) => z === middle);
  return all ? warning('labels', 'zero points are stored, and all of them are in the middle', { tensor, file }) : undefined;
}

/** Version 1 of GPTQ stores z - 1: a zero point of 0 is a lane of ones, which some runtimes read as 2^bits. */
function wrappedZeros(t: CompressedTensor, { name: tensor, file }: TensorInfo, format: string): Finding | undefined {
  if (format !== 'gptq v1' || t.kind !== 'affine' || !t.zeroPoints) return undefined;
  const count = zeroPointValues(t, 0, scaleCount(t)).reduce((n, z) => n + (z === 0 ? 1 : 0), 0);
  return count
    ? warning('zero-points', `${count} zero points are 0, which version 1 cannot hold: runtimes read them as 0 or as ${2 ** t.bits}`, {
        tensor,
        file,
      })
    : undefined;
}

function deadScales(t: CompressedTensor, { name: tensor, file }: TensorInfo): Finding | undefined {
  if (t.kind !== 'affine') return undefined;
  const [rows, cols] = t.shape;
  const scales = scaleRows(t.scales, t.shape, 0, rows);
  if (!scales.includes(0)) return undefined;
  const zeros = zeroValues(t, 0, scales.length);
  const perRow = Math.ceil(cols / t.groupSize);
  const row = new Uint8Array(cols);
  const dead = new Set<number>();
  for (let r = 0; r < rows; r++) {
    const first = Math.floor(r / t.scales.block[0]) * perRow;
    if (!scales.subarray(first, first + perRow).includes(0)) continue;
    unpackInto(t.codes, r * rowBytes(cols, t.bits), 0, t.bits, cols, row, 0);
    for (let c = 0; c < cols; c++) {
      const g = first + (t.groupIndex?.[c] ?? Math.floor(c / t.groupSize));
      if (scales[g] === 0 && row[c] !== zeros[g]) dead.add(g);
    }
  }
  return dead.size
    ? warning('scales', `${dead.size} groups have codes and a scale of 0, which makes zeros of them`, { tensor, file })
    : undefined;
}

/** Scales of bitsandbytes are largest magnitudes. Those that are quantized themselves may come out a little below 0. */
function magnitudes(t: CompressedTensor, { name: tensor, file }: TensorInfo, format: string): Finding | undefined {
  if (format !== 'bitsandbytes' || (t.kind !== 'lut' && t.kind !== 'affine') || !t.scales || t.scales.format === 'table8') return undefined;
  const count = scaleValues(t.scales).reduce((n, s) => n + (s < 0 ? 1 : 0), 0);
  return count ? error('scales', `${count} scales are below 0, and are largest magnitudes`, { tensor, file }) : undefined;
}

const scaleCount = (t: Affine): number => Math.ceil(t.shape[0] / t.scales.block[0]) * Math.ceil(t.shape[1] / t.groupSize);

/**
 * The mean of code - zero point. Weights have a mean of nearly 0, so this is too, unless zero points are read one off; see `offByOne`.
 */
export function meanCode(t: Affine): number {
  const [rows, cols] = t.shape;
  const perRow = Math.ceil(cols / t.groupSize);
  const zeros = zeroPointValues(t, 0, scaleCount(t));
  const row = new Uint8Array(cols);
  let sum = 0;
  for (let r = 0; r < rows; r++) {
    const first = Math.floor(r / t.scales.block[0]) * perRow;
    unpackInto(t.codes, r * rowBytes(cols, t.bits), 0, t.bits, cols, row, 0);
    for (let c = 0; c < cols; c++) sum += row[c]! - zeros[first + (t.groupIndex?.[c] ?? Math.floor(c / t.groupSize))]!;
  }
  return sum / (rows * cols);
}

/**
 * Zero points of asymmetric GPTQ files tell their version by the weights that they make: read as the wrong one, every weight is off by a
 * whole scale, and so is the mean, which is otherwise a small part of it. Only up to 4 bits: with more, a scale is small beside real means.
 * @param means of `meanCode`, of all asymmetric linears
 */
export function offByOne(means: readonly number[], version: 'v1' | 'v2'): Finding | undefined {
  const mean = means.reduce((a, b) => a + b, 0) / means.length;
  const off = version === 'v1' ? -1 : 1; // what the other version makes of it
  if (!means.length || Math.abs(mean - off) > 0.3) return undefined;
  const right = version === 'v1' ? 'gptq_v2' : 'gptq';
  const packing = version === 'v1' ? 'gptqmodel' : 'auto_gptq';
  return error(
    'labels',
    `weights are off by one scale on average (${mean.toFixed(2)}): the zero points are those of ${right}, set checkpoint_format to "${right}" (AutoRound: packing_format to "auto_round:${packing}")`,
  );
}
