import { jsBackend } from '@lmq/kernels-js';
import { type Affine, type Backend, createRng, defineBackend, type InputQuant, type Linear, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { createCore, type Dots } from '../src/_wasm/core.js';
import { createKernels } from '../src/_wasm/kernels.js';
import { createMemory } from '../src/_wasm/memory.js';
import { instantiate } from '../src/_wasm/module.js';
import { oneThread } from '../src/_wasm/threads.js';
import { binaryOf, hasRelaxed, type WasmVariant } from '../src/_wasm/variant.js';

// Symmetric weights of 8 bits with quantized inputs, to the bit: with scales of 1 and sums below 2^24 everything is an integer.

/** A backend that multiplies bytes as if the engine's dot product were `dots`; default: what it is. */
async function backendWith(variant: WasmVariant, dots?: Dots): Promise<{ backend: Backend; dots: Dots }> {
  const memory = createMemory(undefined, 65536);
  const { wasm } = await instantiate(await binaryOf(variant), memory.memory, false);
  const core = createCore(wasm, memory, oneThread(wasm));
  return { backend: defineBackend(createKernels(dots ? { ...core, dots } : core, 'test', () => {})), dots: core.dots };
}

const STATIC = (zeroPoint: number, symmetric = false): InputQuant => ({
  kind: 'int8',
  per: 'tensor',
  symmetric,
  static: { scale: 1, zeroPoint },
});
const INPUTS: [name: string, input: InputQuant, least: number, largest: number][] = [
  ['symmetric', STATIC(0, true), -127, 127],
  ['zero point at the lower end', STATIC(-128), 0, 255],
  ['zero point at the upper end', STATIC(127), -255, 0],
  ['zero point between', STATIC(9), -137, 118],
  ['symmetric per token', { kind: 'int8', per: 'token', symmetric: true }, -127, 127],
];

/** Panels, tiles, depths and their edges. */
const SHAPES: [rows: number, cols: number, tokens: number][] = [
  [1, 1, 1],
  [7, 3, 2],
  [8, 32, 3],
  [9, 33, 4],
  [17, 70, 5],
  [16, 64, 8],
  [15, 31, 12],
  [23, 129, 16],
  [8, 500, 31],
  [3, 1024, 1],
  [11, 1025, 17],
  [10, 2100, 6],
];

function exact(codes: Int8Array, x: Float32Array, rows: number, cols: number, tokens: number): Float32Array {
  const y = new Float32Array(tokens * rows);
  for (let t = 0; t < tokens; t++)
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let c = 0; c < cols; c++) sum += codes[r * cols + c]! * x[t * cols + c]!;
      if (Math.abs(sum) > 2 ** 24) throw new Error('no test: the sum is no float32');
      y[t * rows + r] = sum;
    }
  return y;
}

function linear(codes: Int8Array, rows: number, cols: number, input: InputQuant): Linear {
  const weight: Affine = {
    kind: 'affine',
    shape: [rows, cols],
    bits: 8,
    groupSize: cols,
    codes: Uint8Array.from(codes, (q) => q + 128),
    scales: { block: [1, cols], format: 'fp32', data: new Float32Array(rows).fill(1) },
  };
  return { weight, input };
}

async function product(backend: Backend, l: Linear, x: Float32Array, tokens: number): Promise<Float32Array> {
  const s = backend.scope();
  const w = backend.load(l);
  const y = (await s.read(s.linear(s.upload(matrix(x, tokens, l.weight.shape[1])), w))).data;
  w.dispose();
  s.dispose();
  return y;
}

/** Every shape and input; weights within ±`weight`, inputs from `from` on, the ends of both more often than not. */
async function checkAll(backend: Backend, { weight = [-128, 127], from = -255 }: { weight?: [number, number]; from?: number } = {}) {
  const rng = createRng(7);
  const pick = (low: number, high: number) => (rng.below(3) ? (rng.below(2) ? low : high) : low + rng.below(high - low + 1));
  for (const [name, input, least, largest] of INPUTS) {
    for (const [rows, cols, tokens] of SHAPES) {
      const codes = Int8Array.from({ length: rows * cols }, () => pick(...weight));
      const low = Math.max(least, from);
      const x = Float32Array.from({ length: tokens * cols }, () => (low < largest ? pick(low, largest) : 0));
      if ('per' in input && input.per === 'token') for (let t = 0; t < tokens; t++) x[t * cols] = 127; // the scale is 1
      const got = await product(backend, linear(codes, rows, cols, input), x, tokens);
      expect(got, `${name}, ${rows} x ${cols}, ${tokens} tokens`).toEqual(exact(codes, x, rows, cols, tokens));
    }
  }
}

const VARIANTS: WasmVariant[] = hasRelaxed() ? ['simd128', 'relaxed'] : ['simd128'];
const noRelaxed = hasRelaxed() ? '' : ' (skipped: no relaxed SIMD here)';

describe.each(VARIANTS)('%s', (variant) => {
  it('codes of every kind and place', async () => {
    await checkAll((await backendWith(variant)).backend);
  });

  it('the largest of all everywhere: nothing saturates or wraps', async () => {
    const { backend } = await backendWith(variant);
    for (const [, input, least, largest] of INPUTS) {
      for (const tokens of [1, 2, 13, 31]) {
        for (const weight of [-128, 127]) {
          const [rows, cols] = [9, 512];
          for (const value of [least, largest]) {
            const codes = new Int8Array(rows * cols).fill(weight);
            const x = new Float32Array(tokens * cols).fill(value);
            expect(await product(backend, linear(codes, rows, cols, input), x, tokens)).toEqual(exact(codes, x, rows, cols, tokens));
          }
        }
      }
    }
  });

  it('rows are read back as they were, and outlier columns too', async () => {
    const rng = createRng(3);
    const [rows, cols] = [13, 75];
    const codes = Int8Array.from({ length: rows * cols }, () => rng.below(256) - 128);
    const l = linear(codes, rows, cols, { kind: 'llm-int8', threshold: 100 });
    const { backend } = await backendWith(variant);
    const s = backend.scope();
    const w = backend.load(l);
    const ids = Int32Array.from({ length: rows }, (_, r) => rows - 1 - r);
    const want = Float32Array.from({ length: rows * cols }, (_, i) => codes[ids[Math.floor(i / cols)]! * cols + (i % cols)]!);
    expect((await s.read(s.embedding(w, ids))).data).toEqual(want);
    w.dispose();
    s.dispose();
    for (const tokens of [1, 9]) {
      const x = Float32Array.from({ length: tokens * cols }, (_, i) => (i % 7 === 3 ? 500 - i : (i * 5) % 40));
      const [got, js] = [await product(backend, l, x, tokens), await product(jsBackend(), l, x, tokens)];
      for (let i = 0; i < js.length; i++) expect(Math.abs(got[i]! - js[i]!)).toBeLessThan(2 ** -20 * 128 * 500 * cols);
    }
  });
});

// What an engine does beyond 7 bits is its choice; within what is the same on every one, the ways of all can run here.
describe.skipIf(!hasRelaxed())(`the dot product of bytes${noRelaxed}`, () => {
  it('as if its second operand had unsigned bytes, with weights whose sums of two do not saturate', async () => {
    await checkAll((await backendWith('relaxed', 'unsigned')).backend, { weight: [-64, 64] });
  });

  it('as if its second operand had signed bytes, with inputs of 7 bits', async () => {
    const { backend } = await backendWith('relaxed', 'signed');
    const rng = createRng(8);
    for (const [rows, cols, tokens] of SHAPES) {
      const codes = Int8Array.from({ length: rows * cols }, () => (rng.below(2) ? -128 : rng.below(256) - 128));
      const x = Float32Array.from({ length: tokens * cols }, () => rng.below(128));
      const got = await product(backend, linear(codes, rows, cols, STATIC(0, true)), x, tokens);
      expect(got).toEqual(exact(codes, x, rows, cols, tokens));
    }
  });

  it('is right for 4-bit codes here, or not used', async () => {
    const { dots } = await backendWith('relaxed');
    expect(['narrow', 'unsigned', 'signed', ...(process.version.startsWith('v20.') ? ['none'] : [])]).toContain(dots);
  });
});
