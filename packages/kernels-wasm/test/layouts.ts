/**
 * Weights with a kernel in this package: every format, odd sizes, groups that do and do not fit whole vectors.
 * @module
 */
import {
  BLOCK_TYPES,
  decodeRows,
  ENCODABLE_BLOCK_TYPES,
  encodeBlocks,
  encodeCsr,
  encodeTable4,
  fp16ToFloat,
  packStream,
} from '@lmq/formats';
import { type Affine, type Blocks, type BlockType, type CompressedTensor, type Csr, type Lut, matrix, type Rng } from '@lmq/tensor';

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

for (const tablePer of ['tensor', 'row', 'column'] as const) {
  for (const bits of [1, 3, 4, 5]) LAYOUTS[`table of ${bits} bits per ${tablePer}`] = (rng, r, c) => table(rng, r, c, bits, tablePer);
}
for (const g of [1, 5, 24, 32, 96]) {
  LAYOUTS[`table, scales g${g}`] = (rng, r, c) => ({
    ...table(rng, r, c, 4, 'tensor'),
    scales: { block: [1, Math.min(c, g)], format: 'fp32', data: random(rng, r * Math.ceil(c / Math.min(c, g))) },
  });
}
LAYOUTS['table, scales of blocks of rows'] = (rng, r, c) => ({
  ...table(rng, r, c, 4, 'row'),
  scales: { block: [Math.min(r, 3), c], format: 'fp32', data: random(rng, Math.ceil(r / Math.min(r, 3))) },
});
LAYOUTS['NF4 in runs across rows'] = (rng, r, c) => encodeTable4('nf4', matrix(random(rng, r * c), r, c));
LAYOUTS['NF4 in runs of a row, quantized twice'] = (rng, r, c) =>
  encodeTable4('nf4', matrix(random(rng, r * c), r, c), { blockSize: c, doubleQuant: true });
LAYOUTS['FP4 in runs of three rows'] = (rng, r, c) => encodeTable4('fp4', matrix(random(rng, r * c), r, c), { blockSize: 3 * c });
for (const name of ['table of 4 bits per row', '4-bit g32, symmetric', 'fp32', 'table of 5 bits per row']) {
  LAYOUTS[`${name}, and sparse rows`] = (rng, r, c) => ({
    kind: 'sum',
    shape: [r, c],
    terms: [LAYOUTS[name]!(rng, r, c), sparse(rng, r, c)],
  });
}
LAYOUTS['sparse rows'] = sparse;
LAYOUTS['no sparse rows'] = (_, r, c) => encodeCsr('fp16', new Float32Array(r * c), r, c);

function table(rng: Rng, rows: number, cols: number, bits: number, tablePer: Lut['tablePer']): Lut {
  const n = { tensor: 1, row: rows, column: cols }[tablePer];
  const codes = Uint8Array.from({ length: rows * Math.ceil((cols * bits) / 8) }, () => rng.below(256));
  return { kind: 'lut', shape: [rows, cols], bits, codes, tables: matrix(random(rng, n << bits), n, 1 << bits), tablePer };
}

/** One weight in eight; every third row has none. */
function sparse(rng: Rng, rows: number, cols: number): Csr {
  const w = random(rng, rows * cols).map((x, i) => (rng.below(8) || Math.floor(i / cols) % 3 === 1 ? 0 : x));
  return encodeCsr('bf16', w, rows, cols);
}

/** Blocks that no encoder would write, too: any bytes, but fp16 numbers as `number` gives them, by block and place. */
function anyBlocks(type: BlockType, rng: Rng, shape: [number, number], number: (block: number, place: number) => number): Blocks {
  const { blockSize, blockBytes, halves } = BLOCK_TYPES[type];
  const count = (shape[0] * shape[1]) / blockSize;
  const data = Uint8Array.from({ length: count * blockBytes }, () => rng.below(256));
  for (let b = 0; b < count; b++) {
    if (type === 'MXFP4') data[b * blockBytes] = 64 + rng.below(128); // a power of two, NaN or beyond float32 at the upper end
    for (const [place, at] of halves.entries()) {
      const bits = number(b, place);
      data[b * blockBytes + at] = bits;
      data[b * blockBytes + at + 1] = bits >>> 8;
    }
  }
  return { kind: 'blocks', shape, type, data };
}

/** fp16 bits with an exponent from `low` to `high` (0: subnormal or zero; 30: the largest finite). */
const fp16Bits = (rng: Rng, low: number, high: number) =>
  (rng.below(2) << 15) | ((low + rng.below(high - low + 1)) << 10) | rng.below(1024);

/** What all GGUF block types are tested with. The first is what an encoder makes of a weight. */
export const BLOCKS: Record<string, (type: BlockType, rng: Rng, rows: number, cols: number) => Blocks> = {
  encoded: (type, rng, r, c) => encodeBlocks(type, matrix(random(rng, r * c), r, c)),
  'encoded, every other block zero': (type, rng, r, c) => {
    const { blockSize } = BLOCK_TYPES[type];
    const data = random(rng, r * c).map((x, i) => (Math.floor(i / blockSize) % 2 ? x : 0));
    return encodeBlocks(type, matrix(data, r, c));
  },
  'all zero': (type, _, r, c) => encodeBlocks(type, matrix(new Float32Array(r * c), r, c)),
  'scales of any size': (type, rng, r, c) => anyBlocks(type, rng, [r, c], () => fp16Bits(rng, 0, 30)),
  'smallest scales': (type, rng, r, c) => anyBlocks(type, rng, [r, c], () => fp16Bits(rng, 0, 1)),
  'largest scales': (type, rng, r, c) => anyBlocks(type, rng, [r, c], () => fp16Bits(rng, 29, 30)),
  'scales of 0 and -0 with any codes': (type, rng, r, c) =>
    anyBlocks(type, rng, [r, c], (_, place) => (place === 0 ? rng.below(2) << 15 : fp16Bits(rng, 10, 14))),
  'minimums far larger than scales': (type, rng, r, c) =>
    anyBlocks(type, rng, [r, c], (_, place) => (place === 0 ? fp16Bits(rng, 0, 0) : fp16Bits(rng, 28, 30))),
  'minimums far smaller than scales': (type, rng, r, c) =>
    anyBlocks(type, rng, [r, c], (_, place) => (place === 0 ? fp16Bits(rng, 28, 30) : fp16Bits(rng, 0, 0))),
};
/** Types that have an encoder. The others are decoded in JavaScript, as some of these are. */
export const BLOCK_NAMES = ENCODABLE_BLOCK_TYPES;

/** Whole blocks in a row, and output counts that are none of 4. */
export function blockSizes(type: BlockType): [rows: number, cols: number][] {
  if (BLOCK_TYPES[type].blockSize === 256) {
    return [
      [1, 256],
      [7, 512],
    ];
  }
  if (BLOCK_TYPES[type].blockSize === 64) {
    return [
      [1, 64],
      [9, 192],
    ];
  }
  return [
    [1, 32],
    [9, 96],
    [6, 288],
    [7, 544],
  ];
}

/** Largest factor of the fp16 minimum of a block: those of sub-blocks have codes of 6 or 4 bits, and are taken away. */
const minimums = (type: BlockType) => (type === 'Q4_K' || type === 'Q5_K' ? -63 : type === 'Q2_K' ? -15 : 1);

/** Sum of magnitudes that the kernels really add: with codes that are all positive, up to the largest code times the scale. */
export function spread(t: CompressedTensor, row: number, col: number, value: number): number {
  if (t.kind === 'blocks') {
    // Q4_0 multiplies codes 0 … 15 and takes 8 away at the end, types with a minimum add that at the end; the others multiply signed codes
    const { blockSize, blockBytes, halves } = BLOCK_TYPES[t.type];
    const block = Math.floor((row * t.shape[1] + col) / blockSize) * blockBytes;
    const half = (at: number) => fp16ToFloat(t.data[block + at]! | (t.data[block + at + 1]! << 8));
    const later = halves.length > 1 ? minimums(t.type) * half(halves[1]!) : t.type === 'Q4_0' ? -8 * half(halves[0]!) : 0;
    return Math.abs(value - later) + Math.abs(later);
  }
  if (t.kind === 'sum') {
    // terms are multiplied one by one
    const at = new Float32Array(t.shape[1]);
    return t.terms.reduce((sum, term) => {
      decodeRows(term, row, row + 1, at);
      return sum + spread(term, row, col, at[col]!);
    }, 0);
  }
  if (t.kind !== 'affine') return Math.abs(value);
  const groups = Math.ceil(t.shape[1] / t.groupSize);
  const g = t.groupIndex ? t.groupIndex[col]! : Math.floor(col / t.groupSize);
  return Math.abs(t.scales.data[Math.floor(row / t.scales.block[0]) * groups + g]!) * 2 ** t.bits * 2;
}
