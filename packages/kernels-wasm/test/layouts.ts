/**
 * Weights with a kernel in this package: every format, odd sizes, groups that do and do not fit whole vectors.
 * @module
 */
import { packStream } from '@lmq/formats';
import type { Affine, CompressedTensor, Rng } from '@lmq/tensor';

export function random(rng: Rng, n: number): Float32Array {
  return Float32Array.from({ length: n }, () => rng.normal());
}

export function affine(
  rng: Rng,
  rows: number,
  cols: number,
  bits: number,
  groupSize: number,
  opts: { zeros?: boolean; order?: boolean; blockRows?: number } = {},
): Affine {
  const { zeros = false, order = false, blockRows = 1 } = opts;
  const groups = Math.ceil(cols / groupSize);
  const count = Math.ceil(rows / blockRows) * groups;
  const groupIndex = Int32Array.from({ length: cols }, (_, c) => Math.floor(c / groupSize));
  return {
    kind: 'affine',
    shape: [rows, cols],
    bits,
    groupSize,
    codes: Uint8Array.from({ length: rows * Math.ceil((cols * bits) / 8) }, () => rng.below(256)),
    scales: { block: [blockRows, groupSize], format: 'fp32', data: random(rng, count).map((x) => x / 2 ** bits) },
    ...(zeros && {
      zeroPoints: packStream(
        Uint8Array.from({ length: count }, () => rng.below(2 ** bits)),
        bits,
      ),
    }),
    ...(order && { groupIndex: Int32Array.from(rng.shuffle(Array.from(groupIndex))) }),
  };
}

const halves = (rng: Rng, n: number, exponents: number, shift: number) =>
  Uint16Array.from({ length: n }, () => (rng.below(2) << 15) | (rng.below(exponents) << shift) | rng.below(2 ** shift));

/** Widths that are no multiples of 4, 8, 16, 32; output counts that are none of 4 or 8. */
export const SIZES: [rows: number, cols: number][] = [
  [1, 1],
  [5, 7],
  [9, 33],
  [13, 100],
  [4, 257],
  [23, 300],
  [7, 513],
];

export const LAYOUTS: Record<string, (rng: Rng, rows: number, cols: number) => CompressedTensor> = {
  fp32: (rng, r, c) => ({ kind: 'dense', shape: [r, c], format: 'fp32', data: random(rng, r * c) }),
  'fp16, subnormals too': (rng, r, c) => ({ kind: 'dense', shape: [r, c], format: 'fp16', data: halves(rng, r * c, 31, 10) }),
  bf16: (rng, r, c) => ({
    kind: 'dense',
    shape: [r, c],
    format: 'bf16',
    data: Uint16Array.from(halves(rng, r * c, 8, 7), (x) => x + (120 << 7)),
  }),
};
for (const bits of [1, 2, 3, 4, 5, 6, 7, 8]) {
  for (const zeros of [false, true]) {
    const z = zeros ? 'zero points' : 'symmetric';
    LAYOUTS[`${bits}-bit per row, ${z}`] = (rng, r, c) => affine(rng, r, c, bits, c, { zeros });
    LAYOUTS[`${bits}-bit g32, ${z}`] = (rng, r, c) => affine(rng, r, c, bits, Math.min(c, 32), { zeros });
  }
}
for (const bits of [4, 8]) {
  for (const g of [1, 5, 16, 24, 128])
    LAYOUTS[`${bits}-bit g${g}`] = (rng, r, c) => affine(rng, r, c, bits, Math.min(c, g), { zeros: true });
  LAYOUTS[`${bits}-bit act-order`] = (rng, r, c) => affine(rng, r, c, bits, Math.min(c, 32), { zeros: true, order: true });
  LAYOUTS[`${bits}-bit blocks of rows`] = (rng, r, c) =>
    affine(rng, r, c, bits, Math.min(c, 32), { zeros: true, blockRows: Math.min(r, 4) });
}

/** Sum of magnitudes that the kernels really add: with codes that are all positive, up to the largest code times the scale. */
export function spread(t: CompressedTensor, row: number, col: number, value: number): number {
  if (t.kind !== 'affine') return Math.abs(value);
  const groups = Math.ceil(t.shape[1] / t.groupSize);
  const g = t.groupIndex ? t.groupIndex[col]! : Math.floor(col / t.groupSize);
  return Math.abs(t.scales.data[Math.floor(row / t.scales.block[0]) * groups + g]!) * 2 ** t.bits * 2;
}
