import { jsBackend } from '@lmq/kernels-js';
import { type Dense, isLmqError, type Linear, matrix } from '@lmq/tensor';
import { describe, expect, it, vi } from 'vitest';

const dense = (rows: number, cols: number): Dense => ({
  kind: 'dense',
  shape: [rows, cols],
  format: 'bf16',
  data: new Uint16Array(rows * cols).fill(0x3f80), // 1
});

function codeOf(body: () => unknown): string | undefined {
  try {
    body();
  } catch (e) {
    if (isLmqError(e)) return e.code;
    throw e;
  }
  return undefined;
}

describe('load', () => {
  it('counts the stored bytes and the bias', () => {
    expect(jsBackend().load({ weight: dense(3, 5) }).bytes).toBe(30);
    expect(jsBackend().load({ weight: dense(3, 5), bias: new Float32Array(3) }).bytes).toBe(42);
  });

  it('refuses to quantize the input of a weight that has no integers', () => {
    const linear: Linear = { weight: dense(2, 2), input: { kind: 'llm-int8', threshold: 6 } };
    expect(() => jsBackend().load(linear)).toThrow(/expected affine; found dense/);
    expect(codeOf(() => jsBackend().load(linear))).toBe('backend/unsupported');
  });

  it('refuses a weight whose data does not fill its shape', () => {
    expect(codeOf(() => jsBackend().load({ weight: { ...dense(2, 2), shape: [2, 3] } }))).toBeDefined();
  });

  it('multiplies what the arrays hold at the call', async () => {
    const backend = jsBackend();
    const weight = dense(1, 2);
    const loaded = backend.load({ weight });
    weight.data[1] = 0x4000; // 2
    using s = backend.scope();
    const y = await s.read(s.linear(s.upload(matrix(Float32Array.of(1, 1), 1, 2)), loaded));
    expect(y.data).toEqual(Float32Array.of(3));
  });
});

describe('memory', () => {
  it('an engine that cannot allocate is backend/memory with the cause kept', () => {
    const real = globalThis.Float32Array;
    const s = jsBackend().scope();
    vi.stubGlobal(
      'Float32Array',
      class {
        constructor() {
          throw new RangeError('Array buffer allocation failed');
        }
      },
    );
    let error: unknown;
    try {
      s.alloc(4, 4);
    } catch (e) {
      error = e;
    } finally {
      vi.unstubAllGlobals();
    }
    expect(globalThis.Float32Array).toBe(real);
    expect(isLmqError(error) && error.code).toBe('backend/memory');
    expect((error as Error).cause).toBeInstanceOf(RangeError);
  });
});
