import { type Backend, type CompressedTensor, createRng, defineBackend, type Handle, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { createCore } from '../src/_wasm/core.js';
import { createKernels } from '../src/_wasm/kernels.js';
import { createMemory, type WasmMemory } from '../src/_wasm/memory.js';
import { instantiate } from '../src/_wasm/module.js';
import { oneThread } from '../src/_wasm/threads.js';
import { WASM_SIMD128 } from '../src/generated/simd128.js';

const MEGABYTE = 2 ** 20;

/** A backend whose next allocations up to `room` bytes end at the very last byte of a memory that cannot grow: reading past them traps. */
async function backendAtTheEnd(room: number): Promise<{ backend: Backend; memory: WasmMemory }> {
  const memory = createMemory(8 * MEGABYTE);
  const { wasm } = await instantiate(WASM_SIMD128, memory.memory, false);
  const backend = defineBackend(createKernels(createCore(wasm, memory, oneThread(wasm)), 'test', () => {}));
  const low = memory.allocate(2 * MEGABYTE); // work space of the ops, once it is released
  while (memory.memory.buffer.byteLength < 8 * MEGABYTE) {
    const left = memory.freeList().reduce((sum, e) => sum + e.bytes, 0);
    memory.release(memory.allocate(Math.min(left + 65536, left + 8 * MEGABYTE - memory.memory.buffer.byteLength)));
  }
  const [tail] = memory.freeList();
  memory.allocate(tail!.bytes - Math.ceil(room / 64) * 64);
  const end = memory.freeList()[0]!;
  expect(end.address + end.bytes).toBe(8 * MEGABYTE);
  memory.release(low);
  return { backend, memory };
}

describe('nothing is read or written past an operand', () => {
  it('panels are padded with zeros, not with what lies beside', async () => {
    const memory = createMemory();
    const { wasm } = await instantiate(WASM_SIMD128, memory.memory, false);
    const block = memory.allocate(65536);
    const f = memory.f32().subarray(block.address / 4, block.address / 4 + 16384);
    const to = block.address + 32768;
    for (const width of [5, 6, 8]) {
      for (let count = 1; count <= 17; count++) {
        for (const k of [1, 3, 4, 5, 9]) {
          for (const transposed of [false, true]) {
            f.fill(Number.NaN);
            const [rows, cols] = transposed ? [k, count] : [count, k];
            const stride = cols + 5;
            for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) f[r * stride + c] = 100 * r + c + 1;
            (transposed ? wasm.packColumns : wasm.packRows)(block.address, stride * 4, count, k, to, width);
            const panels = Math.ceil(count / width);
            for (let i = 0; i < panels * width * k; i++) {
              const [panel, step, lane] = [Math.floor(i / (width * k)), Math.floor(i / width) % k, i % width];
              const line = panel * width + lane;
              const want = line >= count ? 0 : transposed ? 100 * step + line + 1 : 100 * line + step + 1;
              if (f[8192 + i] !== want) expect.fail(`width ${width}, ${count} x ${k}, element ${i}: ${f[8192 + i]} instead of ${want}`);
            }
            expect(f[8192 + panels * width * k]).toBeNaN(); // nothing written behind
          }
        }
      }
    }
  });

  it.each([
    [1, 1, 1],
    [5, 7, 9],
    [3, 33, 13],
    [6, 257, 5],
    [130, 19, 7],
  ])('gemm of matrices at the end of memory, %i x %i x %i', async (m, k, n) => {
    for (const [transposeA, transposeB] of [
      [false, false],
      [false, true],
      [true, false],
    ]) {
      for (const last of ['a', 'b', 'out']) {
        const size = { a: m * k, b: k * n, out: m * n }[last]!;
        const { backend, memory } = await backendAtTheEnd(size * 4);
        const s = backend.scope();
        const shape = { a: transposeA ? [k, m] : [m, k], b: transposeB ? [n, k] : [k, n], out: [m, n] } as Record<string, number[]>;
        const h: Record<string, Handle> = {};
        // Best fit puts the first allocation into the hole of its own size: the end.
        for (const name of [last, ...['a', 'b', 'out'].filter((x) => x !== last)]) h[name] = s.alloc(shape[name]![0]!, shape[name]![1]!);
        expect(memory.freeList().some((e) => e.address + e.bytes === 8 * MEGABYTE)).toBe(false);
        s.gemm(h.a!, h.b!, { transposeA: transposeA!, transposeB: transposeB!, out: h.out! });
        s.dispose();
      }
    }
  });

  it.each(['fp32', 'fp16', 'bf16', 'int4', 'int8'])('linear and embedding of a %s weight at the end of memory', async (kind) => {
    const rng = createRng(3);
    for (const [rows, cols] of [
      [1, 1],
      [3, 5],
      [9, 33],
      [5, 127],
      [7, 64],
    ] as const) {
      const n = rows * cols;
      const bits = kind === 'int4' ? 4 : 8;
      const dense = { kind: 'dense', shape: [rows, cols] } as const;
      const weight: CompressedTensor = kind.startsWith('int')
        ? {
            kind: 'affine',
            shape: [rows, cols],
            bits,
            groupSize: cols,
            codes: Uint8Array.from({ length: rows * Math.ceil((cols * bits) / 8) }, () => rng.below(256)),
            scales: { block: [1, cols], format: 'fp32', data: new Float32Array(rows).fill(1) },
          }
        : kind === 'fp32'
          ? { ...dense, shape: [rows, cols], format: 'fp32', data: new Float32Array(n) }
          : { ...dense, shape: [rows, cols], format: kind as 'fp16' | 'bf16', data: new Uint16Array(n) };
      const data = weight.kind === 'affine' ? weight.codes : weight.kind === 'dense' ? weight.data : new Uint8Array(0);
      const bytes = kind === 'fp32' ? Math.ceil(rows / 8) * 8 * cols * 4 : data.byteLength + 32; // fp32 lies in whole panels
      const { backend, memory } = await backendAtTheEnd(bytes);
      for (const activations of ['float32', 'int16', 'int8'] as const) {
        const loaded = backend.load({ weight }, { activations });
        expect(memory.freeList().some((e) => e.address + e.bytes === 8 * MEGABYTE)).toBe(false);
        for (const tokens of [1, 2, 7, 9, 14]) {
          const s = backend.scope();
          const x = s.upload(matrix(new Float32Array(tokens * cols).fill(1), tokens, cols));
          s.linear(x, loaded);
          s.embedding(loaded, [rows - 1]);
          s.dispose();
        }
        loaded.dispose();
      }
    }
  });

  it('panels of bytes, their scales and sums at the end of memory', async () => {
    for (const [rows, cols] of [
      [1, 1],
      [9, 33],
      [7, 1030],
    ] as const) {
      const [padded, width] = [Math.ceil(rows / 8) * 8, Math.ceil(cols / 32) * 32];
      for (const last of [padded * width, padded * 4, Math.ceil(width / 1024) * padded * 4]) {
        const { backend, memory } = await backendAtTheEnd(last);
        const weight: CompressedTensor = {
          kind: 'affine',
          shape: [rows, cols],
          bits: 8,
          groupSize: cols,
          codes: new Uint8Array(rows * cols).fill(7),
          scales: { block: [1, cols], format: 'fp32', data: new Float32Array(rows).fill(1) },
        };
        const loaded = backend.load({ weight, input: { kind: 'llm-int8', threshold: 2 } });
        expect(memory.freeList().some((e) => e.address + e.bytes === 8 * MEGABYTE)).toBe(false);
        for (const tokens of [1, 2, 7, 31]) {
          const s = backend.scope();
          s.linear(
            s.upload(
              matrix(
                Float32Array.from({ length: tokens * cols }, (_, i) => (i % cols) % 3),
                tokens,
                cols,
              ),
            ),
            loaded,
          );
          s.embedding(loaded, [rows - 1]);
          s.dispose();
        }
        loaded.dispose();
      }
    }
  });
});
