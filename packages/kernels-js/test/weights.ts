/**
 * Random weights in every layout, each with its values worked out here from the layout's definition, not by @lmq/formats.
 * @module
 */
import type { Affine, CompressedTensor, Dense, Lut, Minifloat, Rng } from '@lmq/tensor';

export interface SampleWeight {
  label: string;
  weight: CompressedTensor;
  /** Row-major, exact (float64). */
  values: Float64Array;
}

type Sample = Omit<SampleWeight, 'label'>;

/** Makers of one sample per layout. `cols` is a multiple of 32. */
const SAMPLES: Record<string, (rng: Rng, rows: number, cols: number) => Sample> = {
  fp32: dense32,
  fp16: (rng, rows, cols) => denseHalf(rng, rows, cols, 'fp16'),
  bf16: (rng, rows, cols) => denseHalf(rng, rows, cols, 'bf16'),
  'affine 4-bit g32 symmetric': (rng, rows, cols) => affine(rng, rows, cols, 4, 32, 'symmetric'),
  'affine 3-bit per row, zero points': (rng, rows, cols) => affine(rng, rows, cols, 3, cols, 'zeroPoints'),
  'affine 8-bit per tensor': (rng, rows, cols) => affine(rng, rows, cols, 8, cols, 'tensor'),
  'affine 2-bit act-order': (rng, rows, cols) => affine(rng, rows, cols, 2, 16, 'actOrder'),
  'affine 4-bit g32, zero points in fp16': (rng, rows, cols) => affine(rng, rows, cols, 4, 32, 'floats'),
  'affine 5-bit per row, zero points in fp16': (rng, rows, cols) => affine(rng, rows, cols, 5, cols, 'floats'),
  'affine with powers of two as scales': poweredAffine,
  'lut 4-bit': lut,
  'lut in runs, scales quantized twice': nestedLut,
  MXFP8: (rng, rows, cols) => minifloat(rng, rows, cols, 'fp8e4m3'),
  NVFP4: (rng, rows, cols) => minifloat(rng, rows, cols, 'fp4e2m1'),
  Q4_0: (rng, rows, cols) => blocks(rng, rows, cols, 'Q4_0'),
  Q8_0: (rng, rows, cols) => blocks(rng, rows, cols, 'Q8_0'),
  csr,
  'dense and sparse': denseAndSparse,
  sum,
  'parts of columns': (rng, rows, cols) => parts(rng, rows, cols, 'in'),
  'parts of rows': (rng, rows, cols) => parts(rng, rows, cols, 'out'),
  rescaled,
};

/** One sample per layout, or of those named. */
export function* sampleWeights(rng: Rng, rows: number, cols: number, labels = Object.keys(SAMPLES)): Generator<SampleWeight> {
  for (const label of labels) yield { label, ...SAMPLES[label]!(rng, rows, cols) };
}

function dense32(rng: Rng, rows: number, cols: number): { weight: Dense; values: Float64Array } {
  const data = Float32Array.from({ length: rows * cols }, () => rng.normal());
  return { weight: { kind: 'dense', shape: [rows, cols], format: 'fp32', data }, values: Float64Array.from(data) };
}

/** A positive or negative half between 2^-6 and 2^3, and its value. */
function randomHalf(rng: Rng, format: 'fp16' | 'bf16'): { bits: number; value: number } {
  const [mantissaBits, bias] = format === 'fp16' ? [10, 15] : [7, 127];
  const [sign, exponent, mantissa] = [rng.below(2), rng.below(9) - 6, rng.below(2 ** mantissaBits)];
  return {
    bits: sign * 2 ** 15 + (exponent + bias) * 2 ** mantissaBits + mantissa,
    value: (sign ? -1 : 1) * 2 ** exponent * (1 + mantissa / 2 ** mantissaBits),
  };
}

function denseHalf(rng: Rng, rows: number, cols: number, format: 'fp16' | 'bf16'): Sample {
  const halves = Array.from({ length: rows * cols }, () => randomHalf(rng, format));
  const data = Uint16Array.from(halves, (h) => h.bits);
  return { weight: { kind: 'dense', shape: [rows, cols], format, data }, values: Float64Array.from(halves, (h) => h.value) };
}

/** Lowest bits first, bit by bit. */
function pack(values: ArrayLike<number>, bits: number): Uint8Array {
  const out = new Uint8Array(Math.ceil((values.length * bits) / 8));
  for (let i = 0; i < values.length; i++) {
    for (let b = 0; b < bits; b++) out[(i * bits + b) >> 3]! |= ((values[i]! >> b) & 1) << ((i * bits + b) & 7);
  }
  return out;
}

function packRows(codes: Uint8Array, bits: number, rows: number, cols: number): Uint8Array {
  const rowBytes = Math.ceil((cols * bits) / 8);
  const out = new Uint8Array(rows * rowBytes);
  for (let r = 0; r < rows; r++) out.set(pack(codes.subarray(r * cols, (r + 1) * cols), bits), r * rowBytes);
  return out;
}

function affine(
  rng: Rng,
  rows: number,
  cols: number,
  bits: number,
  groupSize: number,
  variant: 'symmetric' | 'zeroPoints' | 'tensor' | 'actOrder' | 'floats',
): Sample {
  const groups = Math.ceil(cols / groupSize);
  const blockRows = variant === 'tensor' ? rows : 1;
  const count = Math.ceil(rows / blockRows) * groups;
  const codes = Uint8Array.from({ length: rows * cols }, () => rng.below(2 ** bits));
  const scales = Array.from({ length: count }, () => randomHalf(rng, 'fp16'));
  const zeros = Uint8Array.from({ length: count }, () => (variant === 'symmetric' ? 2 ** (bits - 1) : rng.below(2 ** bits)));
  const halves = Array.from({ length: count }, () => randomHalf(rng, 'fp16'));
  const groupOf = Int32Array.from({ length: cols }, (_, c) => Math.floor(c / groupSize));
  if (variant === 'actOrder') rng.shuffle(groupOf as unknown as number[]);
  const values = new Float64Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const at = Math.floor(r / blockRows) * groups + groupOf[c]!;
      const zero = variant === 'floats' ? halves[at]!.value : zeros[at]!;
      values[r * cols + c] = Math.fround(Math.fround(codes[r * cols + c]! - zero) * scales[at]!.value);
    }
  }
  const weight: Affine = {
    kind: 'affine',
    shape: [rows, cols],
    bits,
    groupSize,
    codes: packRows(codes, bits, rows, cols),
    scales: { block: [blockRows, groupSize], format: 'fp16', data: Uint16Array.from(scales, (h) => h.bits) },
  };
  if (variant === 'floats') weight.zeroPoints = { format: 'fp16', data: Uint16Array.from(halves, (h) => h.bits) };
  else if (variant !== 'symmetric') weight.zeroPoints = pack(zeros, bits);
  if (variant === 'actOrder') weight.groupIndex = groupOf;
  return { weight, values };
}

function lut(rng: Rng, rows: number, cols: number): Sample {
  const codes = Uint8Array.from({ length: rows * cols }, () => rng.below(16));
  const table = Float32Array.from({ length: rows * 16 }, () => rng.normal());
  const tables = { data: table, shape: [rows, 16], stride: [16, 1], offset: 0 };
  const values = Float64Array.from(codes, (code, i) => table[Math.floor(i / cols) * 16 + code]!);
  return { weight: { kind: 'lut', shape: [rows, cols], bits: 4, codes: packRows(codes, 4, rows, cols), tables, tablePer: 'row' }, values };
}

/** E8M0 scales: 2^(code - 127). */
function poweredAffine(rng: Rng, rows: number, cols: number): Sample {
  const groups = cols / 32;
  const codes = Uint8Array.from({ length: rows * cols }, () => rng.below(16));
  const data = Uint8Array.from({ length: rows * groups }, () => 123 + rng.below(8));
  const values = Float64Array.from(codes, (code, i) => (code - 8) * 2 ** (data[Math.floor(i / 32)]! - 127));
  const scales: Affine['scales'] = { block: [1, 32], format: 'e8m0', data };
  return { weight: { kind: 'affine', shape: [rows, cols], bits: 4, groupSize: 32, codes: packRows(codes, 4, rows, cols), scales }, values };
}

/** As bitsandbytes stores it: a scale per run of 20 weights, across rows, itself a table entry times a number per run of 6 scales, plus a mean. */
function nestedLut(rng: Rng, rows: number, cols: number): Sample {
  const codes = Uint8Array.from({ length: rows * cols }, () => rng.below(16));
  const table = Float32Array.from({ length: 16 }, () => rng.normal());
  const flat = Math.min(20, rows * cols);
  const data = Uint8Array.from({ length: Math.ceil((rows * cols) / flat) }, () => rng.below(256));
  const inner = Float32Array.from({ length: 256 }, () => rng.normal());
  const outer = Math.min(6, data.length);
  const by = Float32Array.from({ length: Math.ceil(data.length / outer) }, () => 0.1 + rng.uniform());
  const scaleAt = (i: number) => Math.fround(Math.fround(inner[data[i]!]! * by[Math.floor(i / outer)]!) + 3.5);
  const values = Float64Array.from(codes, (code, i) => table[code]! * scaleAt(Math.floor(i / flat)));
  const weight: Lut = {
    kind: 'lut',
    shape: [rows, cols],
    bits: 4,
    codes: packRows(codes, 4, rows, cols),
    tables: { data: table, shape: [1, 16], stride: [16, 1], offset: 0 },
    tablePer: 'tensor',
    scales: {
      block: { flat },
      format: 'table8',
      data,
      table: inner,
      outer: { scales: { block: { flat: outer }, format: 'fp32', data: by }, offset: 3.5 },
    },
  };
  return { weight, values };
}

/** E4M3 with a power of two per 32 columns, or E2M1 with an E4M3 scale per 16 and a number for the tensor; the codes of 1 ≤ |x| only. */
function minifloat(rng: Rng, rows: number, cols: number, format: 'fp8e4m3' | 'fp4e2m1'): Sample {
  const e4m3 = () => {
    const [sign, exponent, fraction] = [rng.below(2), rng.below(4), rng.below(8)];
    return { code: sign * 128 + (exponent + 7) * 8 + fraction, value: (sign ? -1 : 1) * 2 ** exponent * (1 + fraction / 8) };
  };
  const e2m1 = () => {
    const code = rng.below(16);
    return { code, value: [0, 0.5, 1, 1.5, 2, 3, 4, 6][code % 8]! * (code < 8 ? 1 : -1) };
  };
  const fp8 = format === 'fp8e4m3';
  const group = fp8 ? 32 : 16;
  const elements = Array.from({ length: rows * cols }, fp8 ? e4m3 : e2m1);
  const codes = Uint8Array.from(elements, (e) => e.code);
  const scales = Array.from({ length: (rows * cols) / group }, () => {
    if (!fp8) return e4m3();
    const power = rng.below(8) - 4;
    return { code: power + 127, value: 2 ** power };
  });
  const data = Uint8Array.from(scales, (s) => s.code);
  const weight: Minifloat = {
    kind: 'minifloat',
    shape: [rows, cols],
    format,
    codes: packRows(codes, fp8 ? 8 : 4, rows, cols),
    scales: fp8
      ? { block: [1, group], format: 'e8m0', data }
      : { block: [1, group], format: 'fp8e4m3', data, global: { op: 'divide', value: 8 } },
  };
  return { weight, values: Float64Array.from(elements, (e, i) => (e.value * scales[Math.floor(i / group)]!.value) / (fp8 ? 1 : 8)) };
}

/** ggml: a half scale d, then Q4_0: 16 bytes, low nibbles are elements 0 to 15, value (q - 8) d; Q8_0: 32 signed bytes, value q d. */
function blocks(rng: Rng, rows: number, cols: number, type: 'Q4_0' | 'Q8_0'): Sample {
  const blockBytes = type === 'Q4_0' ? 18 : 34;
  const count = (rows * cols) / 32;
  const data = new Uint8Array(count * blockBytes);
  const values = new Float64Array(rows * cols);
  for (let b = 0; b < count; b++) {
    const d = randomHalf(rng, 'fp16');
    const at = b * blockBytes;
    data[at] = d.bits & 255;
    data[at + 1] = d.bits >> 8;
    for (let i = 0; i < blockBytes - 2; i++) {
      const byte = rng.below(256);
      data[at + 2 + i] = byte;
      if (type === 'Q8_0') values[b * 32 + i] = (byte < 128 ? byte : byte - 256) * d.value;
      else {
        values[b * 32 + i] = ((byte & 15) - 8) * d.value;
        values[b * 32 + 16 + i] = ((byte >> 4) - 8) * d.value;
      }
    }
  }
  return { weight: { kind: 'blocks', shape: [rows, cols], type, data }, values };
}

/** One weight in eight; rows without any, too. */
function csr(rng: Rng, rows: number, cols: number): Sample {
  const values = new Float64Array(rows * cols);
  const rowStart = new Uint32Array(rows + 1);
  const columns: number[] = [];
  const data: number[] = [];
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      if (r % 3 === 1 || rng.below(8) > 0) continue;
      const half = randomHalf(rng, 'fp16');
      values[r * cols + c] = half.value;
      columns.push(c);
      data.push(half.bits);
    }
    rowStart[r + 1] = columns.length;
  }
  const weight = { kind: 'csr' as const, shape: [rows, cols] as [number, number], format: 'fp16' as const };
  return { weight: { ...weight, rowStart, columns: Uint32Array.from(columns), data: Uint16Array.from(data) }, values };
}

/** SqueezeLLM's: a table per row, and outliers far beyond it. */
function denseAndSparse(rng: Rng, rows: number, cols: number): Sample {
  const [a, b] = [lut(rng, rows, cols), csr(rng, rows, cols)];
  const values = a.values.map((x, i) => Math.fround(x + b.values[i]!));
  return { weight: { kind: 'sum', shape: [rows, cols], terms: [a.weight, b.weight] }, values };
}

function sum(rng: Rng, rows: number, cols: number): Sample {
  const a = affine(rng, rows, cols, 4, 32, 'zeroPoints');
  const b = dense32(rng, rows, cols);
  // The second term is about the size of the first, so neither can be missing unseen, and no sum cancels below a float32 step of its terms.
  for (let i = 0; i < b.values.length; i++) {
    b.weight.data[i] = Math.sign(a.values[i]! || 1) * Math.abs(b.values[i]!);
    b.values[i] = b.weight.data[i]!;
  }
  return { weight: { kind: 'sum', shape: [rows, cols], terms: [a.weight, b.weight] }, values: a.values.map((x, i) => x + b.values[i]!) };
}

function parts(rng: Rng, rows: number, cols: number, axis: 'in' | 'out'): Sample {
  const n = axis === 'in' ? cols : rows;
  const order = Array.from({ length: n }, (_, i) => i);
  rng.shuffle(order);
  const cut = Math.max(1, n >> 2);
  const values = new Float64Array(rows * cols);
  const part = (index: number[], small: boolean) => {
    const [r, c] = axis === 'in' ? [rows, index.length] : [index.length, cols];
    const base = small ? denseHalf(rng, r, c, 'bf16') : affine(rng, r, c, 3, c, 'zeroPoints');
    for (let i = 0; i < r; i++) {
      for (let j = 0; j < c; j++) values[axis === 'in' ? i * cols + index[j]! : index[i]! * cols + j] = base.values[i * c + j]!;
    }
    return { index: Uint32Array.from(index), base: base.weight };
  };
  const list = [part(order.slice(0, cut), true)];
  if (cut < n) list.push(part(order.slice(cut), false));
  return { weight: { kind: 'parts', shape: [rows, cols], axis, parts: list }, values };
}

function rescaled(rng: Rng, rows: number, cols: number): Sample {
  const base = affine(rng, rows, cols, 4, 32, 'symmetric');
  const inputScale = Float32Array.from({ length: cols }, () => 0.5 + rng.uniform());
  const values = base.values.map((x, i) => x * inputScale[i % cols]!);
  return { weight: { kind: 'rescaled', shape: [rows, cols], inputScale, base: base.weight }, values };
}
