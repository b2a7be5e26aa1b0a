import { execFileSync } from 'node:child_process';
import { contiguous, isLmqError, matrix, matrixShape, ndarray, rowMajor, sizeOf, type Tensor, type TypedArray, zeros } from '@lmq/tensor';
import fc from 'fast-check';
import scijs, { type NdArray } from 'ndarray';
import { beforeAll, describe, expect, it, vi } from 'vitest';

function codeOf(body: () => unknown): string | undefined {
  try {
    body();
  } catch (e) {
    if (isLmqError(e)) return e.code;
    throw e;
  }
  return undefined;
}

/** Every element of a tensor, in row-major order, by the definition of strides. */
function elements(t: Tensor<TypedArray>): number[] {
  const walk = (axis: number, at: number): number[] =>
    axis === t.shape.length
      ? [t.data[at]!]
      : Array.from({ length: t.shape[axis]! }, (_, i) => walk(axis + 1, at + i * t.stride[axis]!)).flat();
  return walk(0, t.offset);
}

type Step = { verb: 'lo' | 'hi' | 'step' | 'pick' | 'transpose'; args: (number | undefined)[] };

/** A random tensor of rank 0 to 4 and a chain of view operations, with arguments that stay inside. */
const chains = fc
  .record({
    shape: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 0, maxLength: 4 }),
    seeds: fc.array(
      fc.record({
        verb: fc.constantFrom<Step['verb']>('lo', 'hi', 'step', 'pick', 'transpose'),
        raw: fc.array(fc.nat(), { minLength: 4, maxLength: 4 }),
      }),
      {
        maxLength: 4,
      },
    ),
  })
  .map(({ shape, seeds }) => {
    const steps: Step[] = [];
    let now = [...shape];
    for (const { verb, raw } of seeds) {
      if (verb === 'pick' && now.length === 0) continue; // scijs turns a scalar into its "nil" array, without elements or offset
      const skip = (i: number) => raw[i]! % 3 === 0;
      const value = (i: number) => raw[i]! >> 2;
      let args: (number | undefined)[];
      if (verb === 'lo') {
        args = now.map((n, i) => (skip(i) ? undefined : value(i) % (n + 1)));
        now = now.map((n, i) => n - (args[i] ?? 0));
      } else if (verb === 'hi') {
        args = now.map((n, i) => (skip(i) ? undefined : value(i) % (n + 1)));
        now = now.map((n, i) => args[i] ?? n);
      } else if (verb === 'step') {
        args = now.map((_, i) => (skip(i) ? undefined : [1, 2, 3, -1, -2][value(i) % 5]!));
        now = now.map((n, i) => Math.ceil(n / Math.abs(args[i] ?? 1)));
      } else if (verb === 'pick') {
        args = now.map((n, i) => (skip(i) && n > 0 ? value(i) % n : undefined));
        now = now.filter((_, i) => args[i] === undefined);
      } else {
        const order = now.map((_, i) => i).sort((a, b) => raw[a]! - raw[b]! || a - b);
        args = order;
        now = order.map((a) => now[a]!);
      }
      steps.push({ verb, args });
    }
    return { shape, steps };
  });

function apply(t: NdArray<Float32Array>, steps: Step[]): NdArray<Float32Array> {
  let view = t;
  for (const { verb, args } of steps) view = (view[verb] as unknown as (...a: (number | undefined)[]) => NdArray<Float32Array>)(...args);
  return view;
}

const counting = (n: number) => Float32Array.from({ length: n }, (_, i) => i + 1);

describe('ndarray', () => {
  it('is the scijs ndarray where code generation is allowed', () => {
    const t = ndarray(counting(6), [2, 3]);
    expect(t.constructor).toBe(scijs(counting(6), [2, 3]).constructor);
    expect(t.transpose(1, 0).get(2, 1)).toBe(6);
    expect(ndarray(counting(3)).shape).toEqual([3]);
    expect(ndarray(counting(7), [2, 2], [1, 3], 1).get(1, 1)).toBe(6);
  });

  it('copies neither data nor the caller’s arrays by reference', () => {
    const data = counting(4);
    const shape = [2, 2];
    const t = ndarray(data, shape);
    shape[0] = 99;
    expect(t.shape).toEqual([2, 2]);
    t.set(1, 1, 7);
    expect(data[3]).toBe(7);
  });

  it('matrix, zeros, rowMajor, sizeOf, matrixShape', () => {
    expect(matrix(counting(6), 2, 3).get(1, 0)).toBe(4);
    expect(codeOf(() => matrix(counting(6), 2, 4))).toBe('argument/shape');
    expect(zeros(2, 2).data).toEqual(new Float32Array(4));
    expect(rowMajor([2, 3, 4])).toEqual([12, 4, 1]);
    expect(rowMajor([])).toEqual([]);
    expect(sizeOf([2, 0, 4])).toBe(0);
    expect(sizeOf([])).toBe(1);
    expect(matrixShape(ndarray(counting(6), [2, 3]), 'op')).toEqual([2, 3]);
    expect(matrixShape(ndarray(counting(6)), 'op')).toEqual([1, 6]);
    expect(codeOf(() => matrixShape(ndarray(counting(6), [1, 2, 3]), 'op'))).toBe('argument/shape');
  });
});

describe('contiguous', () => {
  it('is the tensor’s own memory when that is in order', () => {
    const data = counting(12);
    for (const t of [ndarray(data, [3, 4]), ndarray(data, [2, 4], [4, 1], 4), ndarray(data, [1, 4], [99, 1], 2), ndarray(data)]) {
      const flat = contiguous(t);
      expect(flat.buffer).toBe(data.buffer);
      expect(Array.from(flat)).toEqual(elements(t));
    }
  });

  it('gathers transposed, stepped, reversed and repeated elements', () => {
    const t = ndarray(counting(20), [4, 5]);
    const repeated: Tensor = { data: counting(3), shape: [2, 3], stride: [0, 1], offset: 0 };
    for (const v of [t.transpose(1, 0), t.step(2, 2), t.step(-1, -1), t.lo(1, 2).hi(2, 2), t.pick(null, 3), repeated]) {
      const flat = contiguous(v);
      expect(flat.buffer).not.toBe(v.data.buffer);
      expect(Array.from(flat)).toEqual(elements(v));
    }
  });

  it('any chain of views', () => {
    fc.assert(
      fc.property(chains, ({ shape, steps }) => {
        const v = apply(ndarray(counting(sizeOf(shape)), shape), steps);
        expect(Array.from(contiguous(v))).toEqual(elements(v));
      }),
      { numRuns: 300 },
    );
  });

  it('keeps the element type', () => {
    for (const data of [new Uint8Array(4), new Int32Array(4), new Uint16Array(4), new Float64Array(4)]) {
      expect(contiguous(ndarray(data as TypedArray, [2, 2]).transpose(1, 0)).constructor).toBe(data.constructor);
    }
  });

  it('refuses a tensor that reaches outside its data', () => {
    const data = counting(6);
    const bad: Tensor[] = [
      { data, shape: [2, 4], stride: [4, 1], offset: 0 },
      { data, shape: [2, 3], stride: [3, 1], offset: 1 },
      { data, shape: [3, 2], stride: [1, 4], offset: 0 },
      { data, shape: [3], stride: [-1], offset: 1 },
      { data, shape: [1], stride: [1], offset: Number.NaN },
    ];
    for (const t of bad) expect(codeOf(() => contiguous(t))).toBe('argument/shape');
    expect(contiguous({ data, shape: [0, 9], stride: [9, 1], offset: 6 }).length).toBe(0);
  });
});

describe('where code generation is forbidden', () => {
  let make: typeof ndarray;
  type Make = (data: Float32Array, shape: number[]) => NdArray<Float32Array>;
  const both = (): Make[] => [make as Make, scijs as Make];
  beforeAll(async () => {
    vi.resetModules();
    vi.doMock('ndarray', () => ({
      default: () => {
        throw new EvalError('Code generation from strings disallowed for this context');
      },
    }));
    ({ ndarray: make } = await import('@lmq/tensor'));
    vi.doUnmock('ndarray');
  });

  it('scijs throws EvalError there, which is what the fallback looks for', () => {
    const script = "try { require('ndarray')(new Float32Array(4), [2, 2]) } catch (e) { process.stdout.write(e.constructor.name) }";
    const args = ['--disallow-code-generation-from-strings', '-e', script];
    expect(execFileSync(process.execPath, args, { cwd: new URL('../', import.meta.url), encoding: 'utf8' })).toBe('EvalError');
  });

  it('the fallback is another class', () => {
    expect(make(counting(4), [2, 2]).constructor).not.toBe(scijs(counting(4), [2, 2]).constructor);
  });

  it('fields and elements equal scijs after any chain of views', () => {
    fc.assert(
      fc.property(chains, ({ shape, steps }) => {
        const [ours, theirs] = both().map((f) => apply(f(counting(sizeOf(shape)), shape), steps)) as [
          NdArray<Float32Array>,
          NdArray<Float32Array>,
        ];
        // + 0: the sign of zero is not compared
        const fields = (t: NdArray<Float32Array>) => ({
          shape: Array.from(t.shape, (x) => x + 0),
          stride: Array.from(t.stride, (x) => x + 0),
          offset: t.offset + 0,
          size: t.size + 0,
          dimension: t.dimension,
          dtype: t.dtype,
        });
        expect(fields(ours)).toEqual(fields(theirs));
        const sorted = (t: NdArray<Float32Array>) => t.order.map((axis) => Math.abs(t.stride[axis]!));
        expect(sorted(ours)).toEqual(sorted(theirs)); // axes of equal stride may come in either order
        expect([...ours.order].sort()).toEqual([...theirs.order].sort());
        const at = ours.shape.map((n) => n >> 1);
        expect(ours.index(...at)).toBe(theirs.index(...at));
        if (ours.size === 0) return;
        expect(ours.get(...at)).toBe(theirs.get(...at));
        expect((ours.set as unknown as (...a: number[]) => number)(...at, 99)).toBe(
          (theirs.set as unknown as (...a: number[]) => number)(...at, 99),
        );
        expect(elements(ours)).toEqual(elements(theirs));
        expect(ours.data).toEqual(theirs.data);
      }),
      { numRuns: 500 },
    );
  });

  it('has the same dtype for every array type', () => {
    const types = [Float32Array, Float64Array, Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array];
    for (const type of types) expect(make(new type(2)).dtype).toBe(scijs(new type(2)).dtype);
  });

  it('ignores negative and missing arguments of lo, hi and pick, as scijs does', () => {
    for (const verb of ['lo', 'hi', 'pick'] as const) {
      for (const args of [[-1, 1], [1], [null, 1], []] as (number | null)[][]) {
        const [ours, theirs] = both().map((f) =>
          (f(counting(6), [2, 3])[verb] as unknown as (...a: (number | null)[]) => NdArray<Float32Array>)(...args),
        );
        expect([ours!.shape, ours!.stride, ours!.offset]).toEqual([theirs!.shape, theirs!.stride, theirs!.offset]);
      }
    }
  });
});
