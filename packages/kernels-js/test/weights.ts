/**
 * Random weights in every layout, each with its values worked out here from the layout's definition, not by @lmq/formats.
 * @module
 */
import type { Affine, CompressedTensor, Dense, Rng } from '@lmq/tensor';

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
  'lut 4-bit': lut,
  Q4_0: (rng, rows, cols) => blocks(rng, rows, cols, 'Q4_0'),
  Q8_0: (rng, rows, cols) => blocks(rng, rows, cols, 'Q8_0'),
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
  variant: 'symmetric' | 'zeroPoints' | 'tensor' | 'actOrder',
): Sample {
  const groups = Math.ceil(cols / groupSize);
  const blockRows = variant === 'tensor' ? rows : 1;
  const count = Math.ceil(rows / blockRows) * groups;
  const codes = Uint8Array.from({ length: rows * cols }, () => rng.below(2 ** bits));
  const scales = Array.from({ length: count }, () => randomHalf(rng, 'fp16'));
  const zeros = Uint8Array.from({ length: count }, () => (variant === 'symmetric' ? 2 ** (bits - 1) : rng.below(2 ** bits)));
  const groupOf = Int32Array.from({ length: cols }, (_, c) => Math.floor(c / groupSize));
  if (variant === 'actOrder') rng.shuffle(groupOf as unknown as number[]);
  const values = new Float64Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const at = Math.floor(r / blockRows) * groups + groupOf[c]!;
      values[r * cols + c] = (codes[r * cols + c]! - zeros[at]!) * scales[at]!.value;
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
  if (variant !== 'symmetric') weight.zeroPoints = pack(zeros, bits);
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
