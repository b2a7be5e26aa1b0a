import {
  type Backend,
  contiguous,
  defineBackend,
  type Handle,
  isLmqError,
  type Kernels,
  LmqError,
  type Mat,
  matrix,
  ndarray,
  type Scope,
  type TypedArray,
} from '@lmq/tensor';
import { beforeEach, describe, expect, it, vi } from 'vitest';

type Buffer = Float32Array | Uint8Array;

/** A backend of memory, copies and a naive gemm: enough to see the rules of scopes. Counts its live buffers. */
function fakeBackend(variant = 'fake') {
  const live = new Set<Buffer>();
  const order: string[] = [];
  const unused = () => {
    throw new Error('not part of the fake');
  };
  const move = (m: Mat<Buffer>, data: Buffer, toMatrix: boolean) => {
    for (let r = 0; r < m.rows; r++) {
      for (let c = 0; c < m.cols; c++) {
        const at = m.offset + r * m.stride + c;
        if (toMatrix) m.buffer[at] = data[r * m.cols + c]!;
        else data[r * m.cols + c] = m.buffer[at]!;
      }
    }
    return data;
  };
  const make = (type: 'f32' | 'u8', n: number) => (type === 'f32' ? new Float32Array(n) : new Uint8Array(n));
  const kernels = {
    variant,
    allocate(type, length) {
      const buffer = make(type, length);
      live.add(buffer);
      return buffer;
    },
    release(buffer) {
      if (!live.delete(buffer)) throw new Error('released twice');
    },
    write(to, _type, data) {
      move(to, data, true);
    },
    async read(from, type) {
      order.push('read');
      return move(from, make(type, from.rows * from.cols), false);
    },
    copy(to, from, type) {
      move(to, move(from, make(type, from.rows * from.cols), false), true);
    },
    async finish() {
      order.push('finish');
    },
    load: (linear) => ({ packed: linear, bytes: 1 }),
    unload: vi.fn(),
    gemm(out, a, b, ta, tb, alpha, beta) {
      const [sa, pa] = ta ? [1, a.stride] : [a.stride, 1];
      const [sb, pb] = tb ? [b.stride, 1] : [1, b.stride];
      for (let r = 0; r < out.rows; r++) {
        for (let c = 0; c < out.cols; c++) {
          const at = out.offset + r * out.stride + c;
          let sum = beta === 0 ? 0 : beta * out.buffer[at]!;
          for (let p = 0; p < (ta ? a.rows : a.cols); p++)
            sum += alpha * a.buffer[a.offset + r * sa + p * pa]! * b.buffer[b.offset + c * sb + p * pb]!;
          out.buffer[at] = sum;
        }
      }
    },
    syrk: vi.fn(),
    cholesky: () => true,
    triangularInverse: vi.fn(),
    select: vi.fn(),
    scatterAdd: vi.fn(),
    addTo: vi.fn(),
    fakeQuant: vi.fn(),
    obsSweep: vi.fn(),
    obsSweepTable: vi.fn(),
    linear: vi.fn(),
    embedding: vi.fn(),
    rmsNorm: vi.fn(),
    rope: vi.fn(),
    attention: vi.fn(),
    glu: unused,
    softmax: unused,
  } satisfies Kernels<Buffer, unknown>;
  return { backend: defineBackend<Buffer, unknown>(kernels), kernels, live, order };
}

function codeOf(body: () => unknown): string | undefined {
  try {
    body();
  } catch (e) {
    if (isLmqError(e)) return e.code;
    throw e;
  }
  return undefined;
}
const counting = (rows: number, cols: number) =>
  matrix(
    Float32Array.from({ length: rows * cols }, (_, i) => i + 1),
    rows,
    cols,
  );

let fake: ReturnType<typeof fakeBackend>;
let backend: Backend;
let s: Scope;
beforeEach(() => {
  fake = fakeBackend();
  backend = fake.backend;
  s = backend.scope();
});

describe('memory', () => {
  it('uploads floats, bytes, vectors and views of tensors, and reads them back', async () => {
    expect((await s.read(s.upload(counting(2, 3)))).data).toEqual(counting(2, 3).data);
    const vector = s.upload(ndarray(Float32Array.of(1, 2)));
    expect([vector.rows, vector.cols, vector.type]).toEqual([1, 2, 'f32']);
    const transposed = counting(2, 3).transpose(1, 0);
    expect((await s.read(s.upload(transposed))).data).toEqual(contiguous(transposed));
    const bytes = s.upload(ndarray(Uint8Array.of(1, 2, 3, 4), [2, 2]));
    expect(bytes.type).toBe('u8');
    expect((await s.readCodes(bytes)).data).toEqual(Uint8Array.of(1, 2, 3, 4));
  });

  it('refuses other element types, other ranks, and tensors without their data', () => {
    expect(codeOf(() => s.upload(ndarray(new Float64Array(4) as TypedArray, [2, 2])))).toBe('argument/shape');
    expect(codeOf(() => s.upload(ndarray(new Float32Array(8), [2, 2, 2])))).toBe('argument/shape');
    expect(codeOf(() => s.upload({ data: new Float32Array(3), shape: [2, 2], stride: [2, 1], offset: 0 }))).toBe('argument/shape');
    for (const [r, c] of [
      [-1, 2],
      [1.5, 2],
      [Number.NaN, 2],
      [2 ** 53, 1],
    ] as const)
      expect(codeOf(() => s.alloc(r, c))).toBe('argument/shape');
  });

  it('a read is a copy', async () => {
    const h = s.upload(counting(2, 2));
    (await s.read(h)).data[0] = 99;
    expect((await s.read(h)).data[0]).toBe(1);
  });

  it('reads by type only', async () => {
    await expect(s.read(s.alloc(1, 1, 'u8'))).rejects.toMatchObject({ code: 'argument/shape' });
    await expect(s.readCodes(s.alloc(1, 1))).rejects.toMatchObject({ code: 'argument/shape' });
  });

  it('write needs the same shape and type', async () => {
    const h = s.alloc(2, 2);
    s.write(h, counting(2, 2));
    expect((await s.read(h)).data).toEqual(counting(2, 2).data);
    expect(codeOf(() => s.write(h, counting(1, 4)))).toBe('argument/shape');
    expect(codeOf(() => s.write(h, ndarray(new Uint8Array(4), [2, 2])))).toBe('argument/shape');
  });

  it('views share memory, nest, and copy to a matrix of their own', async () => {
    const h = s.upload(counting(4, 5));
    const inner = s.view(s.view(h, [1, 4], [1, 5]), [1, 3], [0, 2]);
    expect((await s.read(inner)).data).toEqual(Float32Array.of(12, 13, 17, 18));
    const copied = s.copy(inner);
    s.write(inner, matrix(new Float32Array(4), 2, 2));
    expect((await s.read(copied)).data).toEqual(Float32Array.of(12, 13, 17, 18));
    expect((await s.read(h)).data.filter((x) => x === 0).length).toBe(4);
    expect((await s.read(s.view(h, [1, 2]))).data).toEqual(Float32Array.of(6, 7, 8, 9, 10));
    expect([s.view(h, [2, 2]).rows, s.view(h, [4, 4], [5, 5]).cols]).toEqual([0, 0]);
  });

  it.each([
    [[-1, 2], undefined],
    [[0, 5], undefined],
    [[3, 2], undefined],
    [[0, 1.5], undefined],
    [
      [0, 4],
      [0, 6],
    ],
    [
      [0, 4],
      [Number.NaN, 2],
    ],
  ] as [[number, number], [number, number] | undefined][])('a window %j %j outside a 4 x 5 matrix is refused', (rows, cols) => {
    const h = s.upload(counting(4, 5));
    expect(codeOf(() => s.view(h, rows, cols))).toBe('argument/shape');
  });
});

describe('lifetimes', () => {
  it('dispose frees everything once, and twice is harmless', () => {
    const h = s.alloc(2, 2);
    s.view(h, [0, 1]);
    s.copy(h);
    expect(fake.live.size).toBe(2);
    s.dispose();
    s.dispose();
    expect(fake.live.size).toBe(0);
  });

  it('`using` disposes', () => {
    {
      using t = backend.scope();
      t.alloc(3, 3);
      expect(fake.live.size).toBe(1);
    }
    expect(fake.live.size).toBe(0);
  });

  it('a freed handle throws in every use, and names the op', async () => {
    const h = s.alloc(2, 2);
    const other = s.alloc(2, 2);
    s.free(h);
    expect(fake.live.size).toBe(1);
    for (const use of [
      () => s.gemm(h, other),
      () => s.gemm(other, other, { out: h }),
      () => s.copy(h),
      () => s.view(h, [0, 1]),
      () => s.write(h, counting(2, 2)),
      () => s.free(h),
      () => s.keep(h, backend.scope()),
      () => s.syrk(h, other),
    ])
      expect(codeOf(use)).toBe('handle/freed');
    await expect(s.read(h)).rejects.toMatchObject({ code: 'handle/freed', facts: { op: 'read' } });
  });

  it('a view dies with what it looks at, and freeing a view frees nothing else', async () => {
    const h = s.upload(counting(2, 2));
    const view = s.view(h, [0, 1]);
    const nested = s.view(view, [0, 1], [0, 1]);
    s.free(nested);
    expect((await s.read(view)).data).toEqual(Float32Array.of(1, 2));
    const again = s.view(view, [0, 1], [1, 2]);
    s.free(view);
    await expect(s.read(again)).rejects.toMatchObject({ code: 'handle/freed' });
    expect((await s.read(h)).data.length).toBe(4);
    const last = s.view(h, [0, 1]);
    s.free(h);
    await expect(s.read(last)).rejects.toMatchObject({ code: 'handle/freed' });
    expect(codeOf(() => s.dispose())).toBeUndefined();
  });

  it('a disposed scope makes nothing', () => {
    const living = backend.scope();
    const h = living.alloc(1, 1);
    s.dispose();
    for (const make of [
      () => s.alloc(1, 1),
      () => s.upload(counting(1, 1)),
      () => s.copy(h),
      () => s.view(h, [0, 1]),
      () => s.gemm(h, h),
      () => living.keep(h, s),
    ])
      expect(codeOf(make)).toBe('handle/freed');
    expect(fake.live.size).toBe(1);
  });

  it('keep moves a handle to a scope that outlives this one', async () => {
    const parent = backend.scope();
    const h = s.upload(counting(2, 2));
    expect(s.keep(h, parent)).toBe(h);
    expect(codeOf(() => s.free(h))).toBe('argument/shape'); // it is the parent's now
    s.dispose();
    expect((await parent.read(h)).data).toEqual(counting(2, 2).data);
    parent.dispose();
    expect(fake.live.size).toBe(0);
    await expect(parent.read(h)).rejects.toMatchObject({ code: 'handle/freed' });
  });

  it('keep to the same scope changes nothing', () => {
    s.keep(s.alloc(1, 1), s);
    s.dispose();
    expect(fake.live.size).toBe(0);
  });

  it('keep refuses views, handles of other scopes, other backends, and what only looks like a scope', () => {
    const parent = backend.scope();
    const h = s.alloc(2, 2);
    expect(codeOf(() => s.keep(s.view(h, [0, 1]), parent))).toBe('argument/shape');
    expect(codeOf(() => parent.keep(h, parent))).toBe('argument/shape');
    expect(codeOf(() => s.keep(h, fakeBackend().backend.scope()))).toBe('handle/foreign');
    expect(codeOf(() => s.keep(h, { ...parent }))).toBe('handle/foreign');
    s.dispose();
    expect(fake.live.size).toBe(0); // a refused handle stays where it was
  });

  it('free and use between scopes: any scope may read, only the owner frees', async () => {
    const other = backend.scope();
    const h = s.upload(counting(1, 2));
    expect((await other.read(h)).data).toEqual(Float32Array.of(1, 2));
    expect(codeOf(() => other.free(h))).toBe('argument/shape');
    const product = other.gemm(h, h, { transposeB: true });
    s.dispose();
    expect((await other.read(product)).data).toEqual(Float32Array.of(5));
  });

  it('handles and weights of another backend are refused by name', () => {
    const foreign = fakeBackend('elsewhere');
    const h = foreign.backend.scope().alloc(2, 2);
    const mine = s.alloc(2, 2);
    expect(codeOf(() => s.gemm(mine, h))).toBe('handle/foreign');
    expect(() => s.gemm(mine, h)).toThrow(/expected fake; found elsewhere/);
    expect(codeOf(() => s.copy({ type: 'f32', rows: 1, cols: 1 } as Handle))).toBe('handle/foreign');
    const weight = { kind: 'dense', shape: [2, 2], format: 'fp32', data: new Float32Array(4) } as const;
    const loaded = foreign.backend.load({ weight: { ...weight, shape: [2, 2] } });
    expect(codeOf(() => s.linear(mine, loaded))).toBe('handle/foreign');
  });

  it('a loaded weight is unloaded once and not used afterwards', () => {
    const loaded = backend.load({ weight: { kind: 'dense', shape: [3, 2], format: 'fp32', data: new Float32Array(6) } });
    expect([loaded.out, loaded.in, loaded.bytes]).toEqual([3, 2, 1]);
    expect(s.linear(s.alloc(4, 2), loaded)).toMatchObject({ rows: 4, cols: 3 });
    expect(codeOf(() => s.linear(s.alloc(4, 3), loaded))).toBe('argument/shape');
    expect(s.embedding(loaded, [2, 0])).toMatchObject({ rows: 2, cols: 2 });
    expect(codeOf(() => s.embedding(loaded, [3]))).toBe('argument/shape');
    loaded.dispose();
    loaded.dispose();
    expect(fake.kernels.unload).toHaveBeenCalledTimes(1);
    expect(codeOf(() => s.linear(s.alloc(4, 2), loaded))).toBe('handle/freed');
  });

  it('a bias that does not fit is refused', () => {
    const weight = { kind: 'dense' as const, shape: [3, 2] as [number, number], format: 'fp32' as const, data: new Float32Array(6) };
    expect(codeOf(() => backend.load({ weight, bias: new Float32Array(2) }))).toBe('argument/shape');
  });
});

describe('flush and abort', () => {
  it('flush waits for the kernels and lets the event loop run', async () => {
    let ran = false;
    setImmediate(() => {
      ran = true;
    });
    const end = Date.now() + 60;
    while (Date.now() < end); // longer than the longest stretch without a turn
    await s.flush();
    expect(fake.order).toEqual(['finish']);
    expect(ran).toBe(true);
  });

  it('an aborted signal ends flush and read with its reason', async () => {
    const controller = new AbortController();
    const t = backend.scope({ signal: controller.signal });
    const h = t.alloc(1, 1);
    await t.flush();
    const reason = new LmqError('calibration/short', 'enough');
    controller.abort(reason);
    await expect(t.flush()).rejects.toBe(reason);
    await expect(t.read(h)).rejects.toBe(reason);
    t.dispose();
    expect(fake.live.size).toBe(0);
  });
});

describe('gemm', () => {
  it('checks inner sizes, out, and options', async () => {
    const a = s.upload(counting(2, 3));
    const b = s.upload(counting(3, 2));
    expect((await s.read(s.gemm(a, b))).data).toEqual(Float32Array.of(22, 28, 49, 64));
    expect(s.gemm(a, a, { transposeA: true })).toMatchObject({ rows: 3, cols: 3 });
    expect(codeOf(() => s.gemm(a, a))).toBe('argument/shape');
    expect(codeOf(() => s.gemm(a, s.upload(counting(2, 2)), { transposeA: true, transposeB: true }))).toBe('argument/shape');
    expect(codeOf(() => s.gemm(a, b, { out: s.alloc(2, 3) }))).toBe('argument/shape');
    expect(codeOf(() => s.gemm(a, b, { out: s.alloc(2, 2, 'u8') }))).toBe('argument/shape');
    expect(codeOf(() => s.gemm(a, b, { beta: 1 }))).toBe('argument/option');
  });

  it('adds to out, also through a view', async () => {
    const h = s.upload(matrix(new Float32Array(16).fill(1), 4, 4));
    const a = s.upload(counting(2, 2));
    const out = s.view(h, [1, 3], [2, 4]);
    expect(s.gemm(a, a, { out, alpha: 2, beta: 10 })).toBe(out);
    expect((await s.read(h)).data).toEqual(Float32Array.of(1, 1, 1, 1, 1, 1, 24, 30, 1, 1, 40, 54, 1, 1, 1, 1));
  });

  it('refuses an out that overlaps either operand, and takes windows side by side', () => {
    const h = s.upload(counting(6, 6));
    const left = s.view(h, [0, 2], [0, 2]);
    const right = s.view(h, [0, 2], [2, 4]);
    const below = s.view(h, [2, 4], [0, 2]);
    const own = s.upload(counting(2, 2));
    for (const [a, b, out] of [
      [left, own, left],
      [own, left, left],
      [left, own, s.view(h, [0, 2], [1, 3])],
      [left, own, s.view(h, [1, 3], [0, 2])],
      [left, right, s.view(h, [1, 3], [3, 5])], // clear of the first operand, not of the second
      [right, left, s.view(h, [1, 3], [3, 5])],
      [s.view(h, [0, 6], [0, 2]), own, s.view(h, [0, 6], [1, 3])],
    ] as const)
      expect(codeOf(() => s.gemm(a, b, { out }))).toBe('argument/shape');
    for (const [a, b, out] of [
      [left, own, right],
      [right, own, left],
      [left, right, below],
      [below, left, right],
      [left, own, s.view(h, [4, 6], [1, 3])],
      [left, left, s.view(h, [0, 2], [4, 6])],
    ] as const)
      expect(s.gemm(a, b, { out })).toBe(out);
  });
});

describe('shape checks before a kernel runs', () => {
  const f32 = (rows: number, cols: number) => s.alloc(rows, cols);
  const grid = (rows: number, groups: number, bits = 4) => ({ scales: f32(rows, groups), zeroPoints: f32(rows, groups), bits });
  const sweep = { start: 0, end: 2, blockEnd: 4 };

  const refused: [string, () => unknown][] = [
    ['syrk', () => s.syrk(f32(3, 3), f32(5, 4))],
    ['syrk', () => s.syrk(f32(4, 3), f32(5, 4))],
    ['cholesky', () => s.cholesky(f32(2, 3))],
    ['triangularInverse', () => s.triangularInverse(f32(3, 2))],
    ['select', () => s.select(f32(2, 2), [2])],
    ['select', () => s.select(f32(2, 2), undefined, [-1])],
    ['select', () => s.select(f32(2, 2), [0.5])],
    ['select', () => s.select(s.alloc(2, 2, 'u8'), [0])],
    ['scatterAdd', () => s.scatterAdd(f32(2, 2), f32(1, 3), [0])],
    ['scatterAdd', () => s.scatterAdd(f32(2, 2), f32(2, 2), [0])],
    ['scatterAdd', () => s.scatterAdd(f32(2, 2), f32(1, 2), [2])],
    ['scatterAdd', () => s.scatterAdd(f32(2, 2), f32(1, 2), [0], [1, 2])],
    ['addTo', () => s.addTo(f32(2, 2), f32(2, 3))],
    ['fakeQuant', () => s.fakeQuant(f32(2, 8), grid(2, 3), 4)],
    ['fakeQuant', () => s.fakeQuant(f32(2, 8), grid(1, 2), 4)],
    ['fakeQuant', () => s.fakeQuant(f32(2, 8), { ...grid(2, 2), zeroPoints: f32(2, 1) }, 4)],
    ['fakeQuant', () => s.fakeQuant(f32(2, 8), grid(2, 2), 4, s.alloc(2, 7, 'u8'))],
    ['fakeQuant', () => s.fakeQuant(f32(2, 8), grid(2, 2), 4, f32(2, 8))],
    ['fakeQuant', () => s.fakeQuant(f32(2, 8), grid(2, 2, 9), 4)],
    ['fakeQuant', () => s.fakeQuant(f32(2, 8), grid(2, 2, 0), 4)],
    ['fakeQuant', () => s.fakeQuant(f32(2, 8), grid(2, 2), 0)],
    ['obsSweep', () => s.obsSweep(f32(3, 4), f32(4, 3), { ...sweep, grid: grid(3, 1), codes: s.alloc(3, 2, 'u8'), errors: f32(3, 2) })],
    ['obsSweep', () => s.obsSweep(f32(3, 4), f32(4, 4), { ...sweep, grid: grid(3, 1), codes: s.alloc(3, 4, 'u8'), errors: f32(3, 2) })],
    ['obsSweep', () => s.obsSweep(f32(3, 4), f32(4, 4), { ...sweep, grid: grid(3, 2), codes: s.alloc(3, 2, 'u8'), errors: f32(3, 2) })],
    [
      'obsSweep',
      () => s.obsSweep(f32(3, 4), f32(4, 4), { ...sweep, end: 0, grid: grid(3, 1), codes: s.alloc(3, 0, 'u8'), errors: f32(3, 0) }),
    ],
    [
      'obsSweep',
      () => s.obsSweep(f32(3, 4), f32(4, 4), { ...sweep, blockEnd: 5, grid: grid(3, 1), codes: s.alloc(3, 2, 'u8'), errors: f32(3, 2) }),
    ],
    [
      'obsSweep',
      () => s.obsSweep(f32(3, 4), f32(4, 4), { ...sweep, blockEnd: 1, grid: grid(3, 1), codes: s.alloc(3, 2, 'u8'), errors: f32(3, 2) }),
    ],
    ...[
      [2, 4],
      [3, 5],
      [3, 0],
    ].map(([rows, entries]): [string, () => unknown] => [
      'obsSweep',
      () => {
        const grid = { tables: f32(rows!, entries!), bits: 2 };
        s.obsSweep(f32(3, 4), f32(4, 4), { ...sweep, grid, codes: s.alloc(3, 2, 'u8'), errors: f32(3, 2) });
      },
    ]),
    ['rmsNorm', () => s.rmsNorm(f32(2, 4), f32(1, 3), 1e-5)],
    ['rmsNorm', () => s.rmsNorm(f32(2, 4), f32(2, 4), 1e-5)],
    ['rope', () => s.rope(f32(2, 6), f32(4, 2), f32(4, 2), { headDim: 4, style: 'half' })],
    ['rope', () => s.rope(f32(2, 8), f32(4, 3), f32(4, 3), { headDim: 4, style: 'half' })],
    ['rope', () => s.rope(f32(2, 8), f32(4, 2), f32(4, 1), { headDim: 4, style: 'half' })],
    ['rope', () => s.rope(f32(2, 8), f32(4, 2), f32(4, 2), { headDim: 4, style: 'half', position: 3 })],
    ['rope', () => s.rope(f32(2, 8), f32(4, 2), f32(4, 2), { headDim: 4, style: 'half', position: -1 })],
    ['attention', () => s.attention(f32(2, 7), f32(2, 4), f32(2, 4), { heads: 2, kvHeads: 1, headDim: 4 })],
    ['attention', () => s.attention(f32(2, 12), f32(2, 8), f32(2, 8), { heads: 3, kvHeads: 2, headDim: 4 })],
    ['attention', () => s.attention(f32(2, 8), f32(2, 8), f32(2, 8), { heads: 2, kvHeads: 1, headDim: 4 })],
    ['attention', () => s.attention(f32(2, 8), f32(2, 4), f32(2, 4), { heads: 2, kvHeads: 1, headDim: 4, position: 1 })],
    ['attention', () => s.attention(f32(2, 8), f32(2, 4), f32(3, 4), { heads: 2, kvHeads: 1, headDim: 4 })],
    ['glu', () => s.glu(f32(2, 8), f32(8, 2))],
  ];
  it.each(refused)('%s (%#)', (op, call) => {
    try {
      call();
    } catch (e) {
      expect(isLmqError(e) && e.facts.op).toBe(op);
      expect(isLmqError(e) && ['argument/shape', 'argument/option']).toContain((e as LmqError).code);
      const kernel = fake.kernels[op as keyof typeof fake.kernels];
      if (vi.isMockFunction(kernel)) expect(kernel).not.toHaveBeenCalled();
      return;
    }
    expect.fail(`${op} took it`);
  });

  it('what fits reaches the kernel with its defaults', () => {
    s.attention(f32(2, 8), f32(2, 4), f32(2, 4), { heads: 2, kvHeads: 1, headDim: 4 });
    expect(fake.kernels.attention.mock.calls[0]![4]).toEqual({ heads: 2, kvHeads: 1, headDim: 4, position: 0, scale: 0.5, window: 2 });
    s.syrk(f32(4, 4), f32(5, 4));
    expect(fake.kernels.syrk.mock.calls[0]!.slice(2)).toEqual([1, 1]);
    s.fakeQuant(f32(2, 9), grid(2, 3), 4);
    expect(fake.kernels.fakeQuant.mock.calls[0]!.slice(5)).toEqual([4, 15]);
  });
});
