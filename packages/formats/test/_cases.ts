/** Random tensors of every layout, and the value of one element by the layouts' definition, bit by bit. */
import {
  type Affine,
  type Blocks,
  type BlockType,
  type CompressedTensor,
  type Dense,
  type FloatData,
  type FloatFormat,
  type GridScales,
  type LayoutKind,
  type Lut,
  type Minifloat,
  type MinifloatFormat,
  ndarray,
  type OuterScales,
  type Rng,
  type ScaleFormat,
  type Scales,
} from '@lmq/tensor';
import { gridPoints } from '../src/block-types/_iq-grids.js';
import { naiveFloat } from './_bits.js';

export const KINDS: LayoutKind[] = ['dense', 'minifloat', 'affine', 'lut', 'blocks', 'csr', 'sum', 'parts', 'rescaled'];
const FORMATS: FloatFormat[] = ['fp32', 'fp16', 'bf16'];
const BITS: Record<MinifloatFormat, number> = { fp8e4m3: 8, fp8e5m2: 8, fp6e2m3: 6, fp6e3m2: 6, fp4e2m1: 4 };

const pick = <T>(rng: Rng, from: readonly T[]): T => from[rng.below(from.length)];
const bytes = (rng: Rng, n: number) => Uint8Array.from({ length: n }, () => rng.below(256));

/** Random finite numbers in stored form: random bits with a moderate exponent, so no rounding code is involved. */
function floats(rng: Rng, format: FloatFormat, n: number): FloatData {
  if (format === 'fp32') return Float32Array.from({ length: n }, () => rng.normal());
  const one = format === 'fp16' ? 0x3c00 : 0x3f80;
  return Uint16Array.from({ length: n }, () => (rng.below(2) << 15) | (one - 0x600 + rng.below(0x900)));
}

/** Finite codes; E5M2's exponents stay below those of infinity. */
function finiteCodes(rng: Rng, format: MinifloatFormat, rows: number, cols: number): Uint8Array {
  const out = bytes(rng, rows * Math.ceil((cols * BITS[format]) / 8));
  return BITS[format] < 8 ? out : out.map((c) => (Number.isFinite(naiveFloat(c, format)) ? c : c & 0x80));
}

/** Everything about scales but their blocks; `n` of them. */
function stored(rng: Rng, n: number): Omit<Scales, 'block'> {
  const format = pick<ScaleFormat>(rng, [...FORMATS, 'fp8e4m3', 'e8m0', 'table8']);
  switch (format) {
    case 'fp8e4m3': {
      const data = finiteCodes(rng, format, 1, n);
      if (rng.below(2)) return { format, data };
      return { format, data, global: { op: pick(rng, ['divide', 'multiply'] as const), value: Math.fround(0.1 + rng.uniform()) } };
    }
    case 'e8m0':
      return { format, data: Uint8Array.from({ length: n }, () => 97 + rng.below(60)) };
    case 'table8': {
      const t: Omit<Scales, 'block'> = { format, data: bytes(rng, n), table: Float32Array.from({ length: 256 }, () => rng.normal()) };
      if (rng.below(2)) {
        const flat = 1 + rng.below(n);
        const outer: OuterScales = { block: { flat }, format: pick(rng, FORMATS), data: new Float32Array() };
        outer.data = floats(rng, outer.format, Math.ceil(n / flat));
        t.outer = { scales: outer, offset: Math.fround(rng.normal()) };
      }
      return t;
    }
    default:
      return { format, data: floats(rng, format, n) };
  }
}

function scales(rng: Rng, rows: number, cols: number): GridScales {
  const block: [number, number] = [pick(rng, [1, 1, rows, 1 + rng.below(rows)]), pick(rng, [cols, 1 + rng.below(cols)])];
  return { block, ...stored(rng, Math.ceil(rows / block[0]) * Math.ceil(cols / block[1])) };
}

/** In rectangles or in runs across rows. */
function anyScales(rng: Rng, rows: number, cols: number): Scales {
  if (rng.below(2)) return scales(rng, rows, cols);
  const flat = pick(rng, [1 + rng.below(rows * cols), Math.min(rows, 2) * cols, Math.ceil(cols / 2)]);
  return { block: { flat }, ...stored(rng, Math.ceil((rows * cols) / flat)) };
}

/** 0 … n - 1 in random order, cut in up to three pieces. */
function split(rng: Rng, n: number): Uint32Array[] {
  const order = rng.shuffle(Array.from({ length: n }, (_, i) => i));
  if (rng.below(2)) order.sort((a, b) => a - b);
  const cuts = [0, rng.below(n + 1), rng.below(n + 1), n].sort((a, b) => a - b);
  return [0, 1, 2].map((i) => Uint32Array.from(order.slice(cuts[i], cuts[i + 1]))).filter((p) => p.length > 0);
}

/** A valid tensor. `depth` layouts may still nest. */
export function randomTensor(rng: Rng, kind: LayoutKind, rows: number, cols: number, depth = 2): CompressedTensor {
  const shape: [number, number] = [rows, cols];
  const inner = (r: number, c: number) => randomTensor(rng, pick(rng, depth > 0 ? KINDS : KINDS.slice(0, 4)), r, c, depth - 1);
  switch (kind) {
    case 'dense': {
      const format = pick(rng, FORMATS);
      return { kind, shape, format, data: floats(rng, format, rows * cols) } satisfies Dense;
    }
    case 'minifloat': {
      const format = pick(rng, Object.keys(BITS) as MinifloatFormat[]);
      const t: Minifloat = { kind, shape, format, codes: finiteCodes(rng, format, rows, cols) };
      if (rng.below(3)) t.scales = anyScales(rng, rows, cols);
      return t;
    }
    case 'affine': {
      const bits = 1 + rng.below(8);
      const s = scales(rng, rows, cols);
      const groups = Math.ceil(cols / s.block[1]);
      const t: Affine = { kind, shape, bits, groupSize: s.block[1], codes: bytes(rng, rows * Math.ceil((cols * bits) / 8)), scales: s };
      const format = pick(rng, FORMATS);
      const zeros = rng.below(3);
      if (zeros === 1) t.zeroPoints = bytes(rng, Math.ceil((s.data.length * bits) / 8));
      if (zeros === 2) t.zeroPoints = { format, data: floats(rng, format, s.data.length) };
      if (rng.below(2)) t.groupIndex = Int32Array.from({ length: cols }, () => rng.below(groups));
      return t;
    }
    case 'lut': {
      const bits = 1 + rng.below(8);
      const tablePer = pick(rng, ['tensor', 'row', 'column'] as const);
      const n = { tensor: 1, row: rows, column: cols }[tablePer];
      const data = Float32Array.from({ length: 3 + n * 2 ** bits }, () => rng.normal());
      const turned = rng.below(2) === 1; // tables may be strided
      const tables = ndarray(data, [n, 2 ** bits], turned ? [1, n] : [2 ** bits, 1], 3);
      const t: Lut = { kind, shape, bits, codes: bytes(rng, rows * Math.ceil((cols * bits) / 8)), tables, tablePer };
      if (rng.below(2)) t.scales = anyScales(rng, rows, cols);
      return t;
    }
    case 'blocks': {
      const fit = (Object.keys(BLOCK_SHAPES) as BlockType[]).filter((type) => cols % BLOCK_SHAPES[type].size === 0);
      if (fit.length === 0) return inner(rows, cols); // no such block type: another layout instead
      const type = pick(rng, fit);
      const { size, bytes: length, halves } = BLOCK_SHAPES[type];
      const data = bytes(rng, ((rows * cols) / size) * length);
      for (let o = 0; o < data.length; o += length) {
        for (const h of halves) if (((data[o + h + 1] ?? 0) & 0x7c) === 0x7c) data[o + h + 1]! ^= 0x40; // keep the half finite
        if (type === 'MXFP4') data[o]! %= 253; // and its largest values
        if (type === 'IQ1_M') data[o + 55]! &= 0xbf; // the exponent of a half spread over four words
      }
      return { kind, shape, type, data };
    }
    case 'csr': {
      const format = pick(rng, FORMATS);
      const columns: number[] = [];
      const rowStart = Uint32Array.from({ length: rows + 1 }, (_, r) => {
        if (r > 0) for (let c = 0; c < cols; c++) if (rng.below(4) === 0 || (r === rows && c === 0)) columns.push(c);
        return columns.length;
      });
      return { kind, shape, format, rowStart, columns: Uint32Array.from(columns), data: floats(rng, format, columns.length) };
    }
    case 'sum':
      return { kind, shape, terms: Array.from({ length: 1 + rng.below(3) }, () => inner(rows, cols)) };
    case 'parts': {
      const axis = pick(rng, ['in', 'out'] as const);
      const parts = split(rng, axis === 'in' ? cols : rows).map((index) => ({
        index,
        base: axis === 'in' ? inner(rows, index.length) : inner(index.length, cols),
      }));
      return { kind, shape, axis, parts };
    }
    case 'rescaled':
      return { kind, shape, inputScale: Float32Array.from({ length: cols }, () => rng.normal()), base: inner(rows, cols) };
  }
}

/** Code `i` of a stream that begins at byte `from`. */
function codeAt(data: Uint8Array, from: number, i: number, bits: number): number {
  let code = 0;
  for (let b = 0; b < bits; b++) {
    const at = i * bits + b;
    code += ((data[from + Math.floor(at / 8)] >> (at % 8)) & 1) * 2 ** b;
  }
  return code;
}

const storedAt = (format: FloatFormat, data: FloatData, i: number) => (format === 'fp32' ? data[i] : naiveFloat(data[i], format));

/** Index of the scale of row r, group g. */
const scaleIndex = (s: GridScales, cols: number, r: number, g: number) => Math.floor(r / s.block[0]) * Math.ceil(cols / s.block[1]) + g;

/** Index of the scale of element [r, c]. */
function scaleIndexAt(s: Scales, cols: number, r: number, c: number): number {
  if (!Array.isArray(s.block)) return Math.floor((r * cols + c) / s.block.flat);
  return scaleIndex(s as GridScales, cols, r, Math.floor(c / s.block[1]));
}

/** Scale `i`, each step rounded to float32. */
function scaleAt({ format, data, table, outer, global }: Scales, i: number): number {
  const code = data[i];
  let x =
    format === 'table8'
      ? table![code]
      : format === 'e8m0'
        ? 2 ** (code - 127)
        : format === 'fp8e4m3'
          ? naiveFloat(code, format)
          : Number.NaN;
  if (Number.isNaN(x)) x = storedAt(format as FloatFormat, data as FloatData, i);
  if (outer) {
    x = Math.fround(x * storedAt(outer.scales.format, outer.scales.data, Math.floor(i / outer.scales.block.flat)));
    x = Math.fround(x + outer.offset);
  }
  if (global) x = Math.fround(global.op === 'divide' ? x / global.value : x * global.value);
  return x;
}

/** Sign of weight j of 8, given those of seven: an even number is negative. */
function evenSign(seven: number, j: number): number {
  const bits = Array.from({ length: 7 }, (_, i) => Math.floor(seven / 2 ** i) % 2);
  const bit = j < 7 ? bits[j]! : bits.reduce((a, b) => a + b) % 2;
  return 1 - 2 * bit;
}

/** Elements and bytes of a block, and where its fp16 numbers are. */
const BLOCK_SHAPES: Record<BlockType, { size: number; bytes: number; halves: number[] }> = {
  Q4_0: { size: 32, bytes: 18, halves: [0] },
  Q4_1: { size: 32, bytes: 20, halves: [0, 2] },
  Q5_0: { size: 32, bytes: 22, halves: [0] },
  Q5_1: { size: 32, bytes: 24, halves: [0, 2] },
  Q8_0: { size: 32, bytes: 34, halves: [0] },
  Q2_K: { size: 256, bytes: 84, halves: [80, 82] },
  Q3_K: { size: 256, bytes: 110, halves: [108] },
  Q4_K: { size: 256, bytes: 144, halves: [0, 2] },
  Q5_K: { size: 256, bytes: 176, halves: [0, 2] },
  Q6_K: { size: 256, bytes: 210, halves: [208] },
  IQ4_NL: { size: 32, bytes: 18, halves: [0] },
  IQ4_XS: { size: 256, bytes: 136, halves: [0] },
  TQ1_0: { size: 256, bytes: 54, halves: [52] },
  TQ2_0: { size: 256, bytes: 66, halves: [64] },
  MXFP4: { size: 32, bytes: 17, halves: [] },
  NVFP4: { size: 64, bytes: 36, halves: [] },
  IQ1_S: { size: 256, bytes: 50, halves: [0] },
  IQ1_M: { size: 256, bytes: 56, halves: [] },
  IQ2_XXS: { size: 256, bytes: 66, halves: [0] },
  IQ2_XS: { size: 256, bytes: 74, halves: [0] },
  IQ2_S: { size: 256, bytes: 82, halves: [0] },
  IQ3_XXS: { size: 256, bytes: 98, halves: [0] },
  IQ3_S: { size: 256, bytes: 110, halves: [0] },
};

const IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];

function blockValue(t: Blocks, r: number, c: number): number {
  const { size, bytes: length } = BLOCK_SHAPES[t.type];
  const block = t.data.subarray(((r * t.shape[1] + c - (c % size)) / size) * length);
  const half = (at: number) => naiveFloat(block[at]! + 256 * block[at + 1]!, 'fp16');
  const signed = (b: number) => (b < 128 ? b : b - 256);
  const j = c % size;
  const nibble = (at: number) => (j < 16 ? block[at + j]! % 16 : Math.floor(block[at + j - 16]! / 16));
  /** Code of 2 bits: 32 bytes per 128 weights. */
  const crumb = (b: Uint8Array, at: number, e: number) =>
    codeAt(b, at + 32 * Math.floor(e / 128), 4 * (e % 32) + (Math.floor(e / 32) % 4), 2);
  /** Code of 4 bits: 32 bytes per 64 weights. */
  const kCode = (at: number) => codeAt(block, at + 32 * Math.floor(j / 64), 2 * (j % 32) + (Math.floor(j / 32) % 2), 4);
  /** Scale (0) or minimum (1) of 6 bits of Q4_K and Q5_K. */
  const pair = (which: number) => {
    const k = Math.floor(j / 32);
    if (k < 4) return block[4 + 4 * which + k]! % 64;
    return codeAt(block, 12, 2 * (k - 4) + which, 4) + 16 * Math.floor(block[4 + 4 * which + k - 4]! / 64);
  };
  switch (t.type) {
    case 'Q4_0':
      return (nibble(2) - 8) * half(0);
    case 'Q4_1':
      return nibble(4) * half(0) + half(2);
    case 'Q5_0':
      return (nibble(6) + 16 * codeAt(block, 2, j, 1) - 16) * half(0);
    case 'Q5_1':
      return (nibble(8) + 16 * codeAt(block, 4, j, 1)) * half(0) + half(2);
    case 'Q8_0':
      return signed(block[2 + j]!) * half(0);
    case 'Q6_K': {
      const [h, quarter, l] = [Math.floor(j / 128), Math.floor((j % 128) / 32), j % 32];
      const low = codeAt(block, 64 * h + 32 * (quarter % 2) + l, quarter >> 1, 4);
      const high = codeAt(block, 128 + 32 * h + l, quarter, 2);
      return half(208) * signed(block[192 + Math.floor(j / 16)]!) * (low + 16 * high - 32);
    }
    case 'Q2_K': {
      const scale = block[Math.floor(j / 16)]!;
      return half(80) * (scale % 16) * crumb(block, 16, j) - half(82) * Math.floor(scale / 16);
    }
    case 'Q3_K': {
      const k = Math.floor(j / 16);
      const low = codeAt(block, 96, k < 8 ? 2 * k : 2 * (k - 8) + 1, 4);
      const high = codeAt(block, 104, 4 * (k % 4) + Math.floor(k / 4), 2);
      const q = crumb(block, 32, j) + 4 * codeAt(block, 0, 8 * (j % 32) + Math.floor(j / 32), 1);
      return half(108) * (low + 16 * high - 32) * (q - 4);
    }
    case 'Q4_K':
      return half(0) * pair(0) * kCode(16) - half(2) * pair(1);
    case 'Q5_K':
      return half(0) * pair(0) * (kCode(48) + 16 * codeAt(block, 16, 8 * (j % 32) + Math.floor(j / 32), 1)) - half(2) * pair(1);
    case 'IQ4_NL':
      return half(0) * IQ4[nibble(2)]!;
    case 'IQ4_XS': {
      const k = Math.floor(j / 32);
      const code = codeAt(block, 8 + 16 * k, 2 * (j % 16) + Math.floor((j % 32) / 16), 4);
      return half(0) * (codeAt(block, 4, k, 4) + 16 * codeAt(block, 2, k, 2) - 32) * IQ4[code]!;
    }
    case 'TQ1_0': {
      const [at, n] = j < 160 ? [j % 32, j / 32] : j < 240 ? [32 + (j % 16), (j - 160) / 16] : [48 + (j % 4), (j - 240) / 4];
      const fraction = ((block[at]! / 256) * 3 ** Math.floor(n)) % 1; // what is left of 0.q0 q1 q2 q3 q4 after n digits
      return (Math.floor(3 * fraction) - 1) * half(52);
    }
    case 'TQ2_0':
      return (crumb(block, 0, j) - 1) * half(64);
    case 'IQ1_S': {
      const k = Math.floor(j / 8);
      const point = block[2 + k]! + 256 * codeAt(block, 34 + 2 * Math.floor(k / 4), k % 4, 3);
      const [scale, negative] = [codeAt(block, 34 + 2 * Math.floor(k / 4), 4, 3), block[35 + 2 * Math.floor(k / 4)]! > 127];
      return half(0) * (2 * scale + 1) * (gridPoints('IQ1')[8 * point + (j % 8)]! + (negative ? -0.125 : 0.125));
    }
    case 'IQ1_M': {
      const k = Math.floor(j / 8);
      const high = codeAt(block, 32, k, 4);
      const d = naiveFloat(
        [1, 3, 5, 7].reduce((sum, at, i) => sum + codeAt(block, 48, 2 * at + 1, 4) * 16 ** i, 0),
        'fp16',
      );
      const scale = codeAt(block, 48 + 2 * Math.floor(j / 64), Math.floor(j / 16) % 4, 3);
      const coordinate = gridPoints('IQ1')[8 * (block[k]! + 256 * (high % 8)) + (j % 8)]!;
      return d * (2 * scale + 1) * (coordinate + (high > 7 ? -0.125 : 0.125));
    }
    case 'IQ2_XXS': {
      const at = 2 + 8 * Math.floor(j / 32);
      const l = Math.floor((j % 32) / 8);
      const value = gridPoints('IQ2_XXS')[8 * block[at + l]! + (j % 8)]!;
      return half(0) * (0.5 + Math.floor(block[at + 7]! / 16)) * 0.25 * value * evenSign(codeAt(block, at + 4, l, 7), j % 8);
    }
    case 'IQ2_XS': {
      const at = 2 + 2 * Math.floor(j / 8);
      const word = block[at]! + 256 * block[at + 1]!;
      const value = gridPoints('IQ2_XS')[8 * (word % 512) + (j % 8)]!;
      return half(0) * (0.5 + codeAt(block, 66, Math.floor(j / 16), 4)) * 0.25 * value * evenSign(Math.floor(word / 512), j % 8);
    }
    case 'IQ2_S': {
      const k = Math.floor(j / 8);
      const value = gridPoints('IQ2_S')[8 * (block[2 + k]! + 256 * codeAt(block, 66, k, 2)) + (j % 8)]!;
      return half(0) * (0.5 + codeAt(block, 74, Math.floor(j / 16), 4)) * 0.25 * value * (1 - 2 * codeAt(block, 34, j, 1));
    }
    case 'IQ3_XXS': {
      const at = 66 + 4 * Math.floor(j / 32);
      const value = gridPoints('IQ3_XXS')[4 * block[2 + Math.floor(j / 4)]! + (j % 4)]!;
      const signs = codeAt(block, at, Math.floor((j % 32) / 8), 7);
      return half(0) * (0.5 + Math.floor(block[at + 3]! / 16)) * 0.5 * value * evenSign(signs, j % 8);
    }
    case 'IQ3_S': {
      const k = Math.floor(j / 4);
      const value = gridPoints('IQ3_S')[4 * (block[2 + k]! + 256 * codeAt(block, 66, k, 1)) + (j % 4)]!;
      return half(0) * (1 + 2 * codeAt(block, 106, Math.floor(j / 32), 4)) * value * (1 - 2 * codeAt(block, 74, j, 1));
    }
    case 'MXFP4':
      return 2 ** (block[0]! - 127) * E2M1[nibble(1)]!;
    case 'NVFP4': {
      const k = Math.floor(j / 16);
      const [exponent, fraction] = [Math.floor(block[k]! / 8) % 16, block[k]! % 8];
      const scale = block[k] === 127 ? 0 : exponent === 0 ? (fraction / 8) * 2 ** -6 : (1 + fraction / 8) * 2 ** (exponent - 7);
      return scale * E2M1[codeAt(block, 4 + 8 * k, 2 * (j % 8) + Math.floor((j % 16) / 8), 4)]!;
    }
  }
}

/** Element [r, c] by the definitions in `@lmq/tensor`'s layouts, each result rounded to float32. */
export function valueAt(t: CompressedTensor, r: number, c: number): number {
  const cols = t.shape[1];
  switch (t.kind) {
    case 'dense':
      return storedAt(t.format, t.data, r * cols + c);
    case 'minifloat': {
      const bits = BITS[t.format];
      const value = naiveFloat(codeAt(t.codes, r * Math.ceil((cols * bits) / 8), c, bits), t.format);
      return t.scales ? Math.fround(value * scaleAt(t.scales, scaleIndexAt(t.scales, cols, r, c))) : value;
    }
    case 'affine': {
      const code = codeAt(t.codes, r * Math.ceil((cols * t.bits) / 8), c, t.bits);
      const g = t.groupIndex ? t.groupIndex[c] : Math.floor(c / t.groupSize);
      const s = scaleIndex(t.scales, cols, r, g);
      const { zeroPoints } = t;
      if (zeroPoints && !(zeroPoints instanceof Uint8Array))
        return Math.fround(Math.fround(code - storedAt(zeroPoints.format, zeroPoints.data, s)) * scaleAt(t.scales, s));
      const zero = zeroPoints ? codeAt(zeroPoints, 0, s, t.bits) : 2 ** (t.bits - 1);
      return Math.fround((code - zero) * scaleAt(t.scales, s));
    }
    case 'lut': {
      const code = codeAt(t.codes, r * Math.ceil((cols * t.bits) / 8), c, t.bits);
      const { data, stride, offset } = t.tables;
      const value = data[offset + { tensor: 0, row: r, column: c }[t.tablePer] * stride[0] + code * stride[1]];
      if (!t.scales) return value;
      return Math.fround(value * scaleAt(t.scales, scaleIndexAt(t.scales, cols, r, c)));
    }
    case 'blocks':
      return Math.fround(blockValue(t, r, c));
    case 'csr':
      for (let i = t.rowStart[r]!; i < t.rowStart[r + 1]!; i++) if (t.columns[i] === c) return storedAt(t.format, t.data, i);
      return 0;
    case 'sum':
      return t.terms.map((term) => valueAt(term, r, c)).reduce((a, b) => Math.fround(a + b));
    case 'parts':
      for (const { index, base } of t.parts) {
        const i = index.indexOf(t.axis === 'in' ? c : r);
        if (i >= 0) return t.axis === 'in' ? valueAt(base, r, i) : valueAt(base, i, c);
      }
      throw new Error('not covered');
    case 'rescaled':
      return Math.fround(valueAt(t.base, r, c) * t.inputScale[c]);
  }
}
