/**
 * The half of every backend that is not arithmetic: handle lifetimes, shape checks, cancellation. A backend supplies {@link Kernels};
 * `defineBackend` makes a {@link Backend} of them, so the rules are the same everywhere and a kernel never sees a wrong shape.
 * @module
 */
import type { AffineGrid, AttentionOpts, Backend, Handle, HandleType, LoadedLinear, Scope, ScopeOpts } from './backend.js';
import { LmqError } from './errors.js';
import type { Linear } from './layouts.js';
import { contiguous, matrixShape, type NdArray, ndarray, type Tensor, type TypedArray } from './ndarray.js';

/** A matrix as kernels see it: `rows` x `cols` elements of `buffer` from `offset` (in elements), rows `stride` apart, columns adjacent. */
export interface Mat<B> {
  readonly buffer: B;
  readonly offset: number;
  readonly rows: number;
  readonly cols: number;
  readonly stride: number;
}

/**
 * What a backend implements. `B` is its buffer type, `L` its packed weight. Shapes are already checked and outputs allocated; outputs
 * are zero-filled only where stated. Kernels may run at the call or queue; `finish` waits for the queue.
 */
export interface Kernels<B, L> {
  readonly variant: string;
  /** Zero-filled; throws `backend/memory`. */
  allocate(type: HandleType, length: number): B;
  release(buffer: B): void;
  /** Copies `data` (row-major) into a matrix. */
  write(to: Mat<B>, type: HandleType, data: Float32Array | Uint8Array): void;
  /** Copies a matrix out, row-major. */
  read(from: Mat<B>, type: HandleType): Promise<Float32Array | Uint8Array>;
  copy(to: Mat<B>, from: Mat<B>, type: HandleType): void;
  finish(): Promise<void>;

  load(linear: Linear): { packed: L; bytes: number };
  unload(packed: L): void;

  gemm(out: Mat<B>, a: Mat<B>, b: Mat<B>, transposeA: boolean, transposeB: boolean, alpha: number, beta: number): void;
  syrk(h: Mat<B>, x: Mat<B>, alpha: number, beta: number): void;
  /** Returns false when not positive definite. */
  cholesky(out: Mat<B>, a: Mat<B>): boolean;
  triangularInverse(out: Mat<B>, l: Mat<B>): void;
  select(out: Mat<B>, a: Mat<B>, rows: Int32Array | null, cols: Int32Array | null): void;
  scatterAdd(into: Mat<B>, a: Mat<B>, rows: Int32Array, factors: Float32Array | null): void;
  addTo(into: Mat<B>, a: Mat<B>, alpha: number): void;

  fakeQuant(out: Mat<B>, codes: Mat<B> | null, w: Mat<B>, scales: Mat<B>, zeroPoints: Mat<B>, groupSize: number, maxCode: number): void;
  /** `errors` and `codes` cover columns [start, end). */
  obsSweep(
    w: Mat<B>,
    u: Mat<B>,
    errors: Mat<B>,
    codes: Mat<B>,
    scales: Mat<B>,
    zeroPoints: Mat<B>,
    maxCode: number,
    start: number,
    end: number,
    blockEnd: number,
  ): void;

  linear(out: Mat<B>, x: Mat<B>, w: L): void;
  embedding(out: Mat<B>, w: L, ids: Int32Array): void;
  rmsNorm(out: Mat<B>, x: Mat<B>, weight: Mat<B>, eps: number): void;
  rope(x: Mat<B>, cos: Mat<B>, sin: Mat<B>, headDim: number, interleaved: boolean, position: number): void;
  attention(out: Mat<B>, q: Mat<B>, k: Mat<B>, v: Mat<B>, opts: Required<AttentionOpts>): void;
  swiglu(out: Mat<B>, gate: Mat<B>, up: Mat<B>): void;
  softmax(out: Mat<B>, x: Mat<B>): void;
}

/** Longest stretch of work without letting the event loop run. */
const YIELD_AFTER_MS = 40;

/** Makes a backend of kernels. */
export function defineBackend<B, L>(kernels: Kernels<B, L>): Backend {
  const backend: Backend = {
    variant: kernels.variant,
    scope: (opts = {}) => createScope(kernels, backend, opts),
    load: (linear) => loadLinear(kernels, backend, linear),
  };
  return backend;
}

interface Slot<B> extends Handle, Mat<B> {
  backend: Backend;
  scope: Scope;
  /** The handle a view looks at. */
  of: Slot<B> | null;
  freed: boolean;
}

interface LoadedSlot<L> extends LoadedLinear {
  backend: Backend;
  packed: L;
  freed: boolean;
}

function loadLinear<B, L>(kernels: Kernels<B, L>, backend: Backend, linear: Linear): LoadedLinear {
  const [out, width] = linear.weight.shape;
  if (linear.bias && linear.bias.length !== out) {
    throw new LmqError('argument/shape', 'bias does not fit the weight', { op: 'load', expected: out, found: linear.bias.length });
  }
  const { packed, bytes } = kernels.load(linear);
  const slot: LoadedSlot<L> = {
    out,
    in: width,
    bytes,
    backend,
    packed,
    freed: false,
    dispose() {
      if (this.freed) return;
      this.freed = true;
      kernels.unload(packed);
    },
  };
  return slot;
}

let lastYield = 0;

/** Lets timers, input and rendering run. */
function nextTurn(): Promise<void> {
  if (typeof setImmediate === 'function') return new Promise((resolve) => setImmediate(resolve));
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel(); // not clamped to 4 ms as nested timeouts are
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}

function createScope<B, L>(kernels: Kernels<B, L>, backend: Backend, { signal }: ScopeOpts): Scope {
  const owned = new Set<Slot<B>>();
  let disposed = false;

  const fail = (op: string, what: string, expected: unknown, found: unknown): never => {
    throw new LmqError('argument/shape', what, { op, expected, found });
  };
  const shape = (h: { rows: number; cols: number }) => `${h.rows} x ${h.cols}`;
  /** The slot behind a handle, if it is alive, of this backend and of the wanted type. */
  const use = (h: Handle, op: string, type?: HandleType): Slot<B> => {
    const slot = h as Slot<B>;
    if (slot.backend !== backend) {
      throw new LmqError('handle/foreign', 'the handle belongs to another backend', {
        op,
        expected: backend.variant,
        found: slot.backend?.variant ?? typeof h,
        hint: 'Read it there and upload it here.',
      });
    }
    for (let s: Slot<B> | null = slot; s; s = s.of) {
      if (s.freed)
        throw new LmqError('handle/freed', 'the handle was freed', {
          op,
          hint: 'Use it before its scope is disposed, or move it with keep().',
        });
    }
    if (type && slot.type !== type) fail(op, 'the handle has the wrong element type', type, slot.type);
    return slot;
  };
  const loaded = (w: LoadedLinear, op: string): L => {
    const slot = w as LoadedSlot<L>;
    if (slot.backend !== backend) throw new LmqError('handle/foreign', 'the weight was loaded by another backend', { op });
    if (slot.freed) throw new LmqError('handle/freed', 'the weight was disposed', { op });
    return slot.packed;
  };
  const alive = (op: string) => {
    if (disposed) throw new LmqError('handle/freed', 'the scope was disposed', { op });
  };
  const make = (rows: number, cols: number, type: HandleType = 'f32'): Slot<B> => {
    alive('alloc');
    if (!Number.isSafeInteger(rows) || !Number.isSafeInteger(cols) || rows < 0 || cols < 0)
      fail('alloc', 'not a size', 'integers >= 0', `${rows} x ${cols}`);
    const buffer = kernels.allocate(type, rows * cols);
    const slot: Slot<B> = { type, rows, cols, stride: cols, offset: 0, buffer, backend, scope, of: null, freed: false };
    owned.add(slot);
    return slot;
  };
  const release = (slot: Slot<B>) => {
    if (slot.freed) return;
    slot.freed = true;
    if (!slot.of) kernels.release(slot.buffer);
  };
  const like = (h: Slot<B>) => make(h.rows, h.cols, h.type);
  const indices = (list: ArrayLike<number>, limit: number, op: string): Int32Array => {
    const out = new Int32Array(list.length);
    for (let i = 0; i < list.length; i++) {
      const k = list[i]!;
      if (!(Number.isInteger(k) && k >= 0 && k < limit)) fail(op, `index ${i} is out of range`, `0 … ${limit - 1}`, k);
      out[i] = k;
    }
    return out;
  };
  const same = (a: Slot<B>, b: Slot<B>, op: string) => {
    if (a.rows !== b.rows || a.cols !== b.cols) fail(op, 'shapes differ', shape(a), shape(b));
  };
  const source = (t: Tensor<TypedArray>, op: string): { data: Float32Array | Uint8Array; type: HandleType; rows: number; cols: number } => {
    const [rows, cols] = matrixShape(t, op);
    const data = contiguous(t);
    if (data instanceof Float32Array) return { data, type: 'f32', rows, cols };
    if (data instanceof Uint8Array) return { data, type: 'u8', rows, cols };
    return fail(op, 'a Float32Array or Uint8Array is needed', 'float32 or uint8', data.constructor.name);
  };
  const readAs = async (h: Handle, type: HandleType): Promise<NdArray<Float32Array | Uint8Array>> => {
    const slot = use(h, 'read', type);
    const data = await kernels.read(slot, type);
    signal?.throwIfAborted();
    return ndarray(data, [slot.rows, slot.cols]);
  };
  const grid = (g: AffineGrid, op: string, rows: number, groups: number) => {
    const scales = use(g.scales, op, 'f32');
    const zeroPoints = use(g.zeroPoints, op, 'f32');
    if (scales.rows !== rows || scales.cols !== groups) fail(op, 'scales do not fit the weight', `${rows} x ${groups}`, shape(scales));
    same(scales, zeroPoints, op);
    if (!(Number.isInteger(g.bits) && g.bits >= 1 && g.bits <= 8)) {
      throw new LmqError('argument/option', 'bits is out of range', { op, expected: '1 … 8', found: g.bits });
    }
    return { scales, zeroPoints, maxCode: 2 ** g.bits - 1 };
  };

  const scope: Scope = {
    backend,

    upload(t) {
      const from = source(t, 'upload');
      const slot = make(from.rows, from.cols, from.type);
      kernels.write(slot, from.type, from.data);
      return slot;
    },
    alloc: make,
    view(h, rows, cols = [0, h.cols]) {
      alive('view');
      const of = use(h, 'view');
      const ok = (r: readonly [number, number], n: number) =>
        Number.isInteger(r[0]) && Number.isInteger(r[1]) && r[0] >= 0 && r[0] <= r[1] && r[1] <= n;
      if (!ok(rows, of.rows) || !ok(cols, of.cols))
        fail('view', 'the window leaves the matrix', shape(of), `rows ${rows}, columns ${cols}`);
      const slot: Slot<B> = {
        type: of.type,
        rows: rows[1] - rows[0],
        cols: cols[1] - cols[0],
        stride: of.stride,
        offset: of.offset + rows[0] * of.stride + cols[0],
        buffer: of.buffer,
        backend,
        scope,
        of,
        freed: false,
      };
      owned.add(slot);
      return slot;
    },
    copy(h) {
      const from = use(h, 'copy');
      const to = like(from);
      kernels.copy(to, from, from.type);
      return to;
    },
    write(h, t) {
      const from = source(t, 'write');
      const to = use(h, 'write', from.type);
      if (to.rows !== from.rows || to.cols !== from.cols) fail('write', 'shapes differ', shape(to), shape(from));
      kernels.write(to, to.type, from.data);
    },
    read: (h) => readAs(h, 'f32') as Promise<NdArray<Float32Array>>,
    readCodes: (h) => readAs(h, 'u8') as Promise<NdArray<Uint8Array>>,
    free(h) {
      const slot = use(h, 'free');
      if (slot.scope !== scope) fail('free', 'the handle belongs to another scope', 'a handle of this scope', 'another');
      owned.delete(slot);
      release(slot);
    },
    keep(h, to) {
      const slot = use(h, 'keep');
      if (to.backend !== backend) throw new LmqError('handle/foreign', 'the scope belongs to another backend', { op: 'keep' });
      if (slot.of) fail('keep', 'a view cannot outlive its scope', 'a matrix of its own', 'a view');
      if (slot.scope !== scope) fail('keep', 'the handle belongs to another scope', 'a handle of this scope', 'another');
      if (to === scope) return slot;
      adopt(to, slot);
      owned.delete(slot);
      return slot;
    },
    async flush() {
      await kernels.finish();
      const now = Date.now();
      if (now - lastYield >= YIELD_AFTER_MS) {
        await nextTurn();
        lastYield = Date.now();
      }
      signal?.throwIfAborted();
    },
    dispose() {
      disposed = true;
      for (const slot of owned) release(slot);
      owned.clear();
    },
    [Symbol.dispose]() {
      scope.dispose();
    },

    gemm(ha, hb, opts = {}) {
      const a = use(ha, 'gemm', 'f32');
      const b = use(hb, 'gemm', 'f32');
      const { transposeA = false, transposeB = false, alpha = 1, beta = 0 } = opts;
      const [m, k] = transposeA ? [a.cols, a.rows] : [a.rows, a.cols];
      const [k2, n] = transposeB ? [b.cols, b.rows] : [b.rows, b.cols];
      if (k !== k2) fail('gemm', 'inner sizes differ', k, k2);
      if (transposeA && transposeB) fail('gemm', 'both operands are transposed', 'at most one', 'two');
      const out = opts.out ? use(opts.out, 'gemm', 'f32') : make(m, n);
      if (out.rows !== m || out.cols !== n) fail('gemm', 'out does not fit the product', `${m} x ${n}`, shape(out));
      if (beta !== 0 && !opts.out) throw new LmqError('argument/option', 'beta needs out', { op: 'gemm', found: beta });
      if (out.buffer === a.buffer) disjoint(out, a, 'gemm');
      if (out.buffer === b.buffer) disjoint(out, b, 'gemm');
      kernels.gemm(out, a, b, transposeA, transposeB, alpha, beta);
      return out;
    },
    syrk(hh, hx, { alpha = 1, beta = 1 } = {}) {
      const h = use(hh, 'syrk', 'f32');
      const x = use(hx, 'syrk', 'f32');
      if (h.rows !== x.cols || h.cols !== x.cols) fail('syrk', 'h does not fit x', `${x.cols} x ${x.cols}`, shape(h));
      kernels.syrk(h, x, alpha, beta);
    },
    cholesky(ha) {
      const a = use(ha, 'cholesky', 'f32');
      if (a.rows !== a.cols) fail('cholesky', 'the matrix is not square', `${a.rows} x ${a.rows}`, shape(a));
      const factor = like(a);
      return { factor, ok: kernels.cholesky(factor, a) };
    },
    triangularInverse(hl) {
      const l = use(hl, 'triangularInverse', 'f32');
      if (l.rows !== l.cols) fail('triangularInverse', 'the matrix is not square', `${l.rows} x ${l.rows}`, shape(l));
      const out = like(l);
      kernels.triangularInverse(out, l);
      return out;
    },
    select(ha, rows, cols) {
      const a = use(ha, 'select', 'f32');
      const r = rows ? indices(rows, a.rows, 'select') : null;
      const c = cols ? indices(cols, a.cols, 'select') : null;
      const out = make(r ? r.length : a.rows, c ? c.length : a.cols);
      kernels.select(out, a, r, c);
      return out;
    },
    scatterAdd(hinto, ha, rows, factors) {
      const into = use(hinto, 'scatterAdd', 'f32');
      const a = use(ha, 'scatterAdd', 'f32');
      if (into.cols !== a.cols) fail('scatterAdd', 'columns differ', into.cols, a.cols);
      if (rows.length !== a.rows) fail('scatterAdd', 'one row index per row is needed', a.rows, rows.length);
      if (factors && factors.length !== a.rows) fail('scatterAdd', 'one factor per row is needed', a.rows, factors.length);
      kernels.scatterAdd(into, a, indices(rows, into.rows, 'scatterAdd'), factors ? Float32Array.from(factors) : null);
    },
    addTo(hinto, ha, alpha = 1) {
      const into = use(hinto, 'addTo', 'f32');
      const a = use(ha, 'addTo', 'f32');
      same(into, a, 'addTo');
      kernels.addTo(into, a, alpha);
    },

    fakeQuant(hw, g, groupSize, hcodes) {
      const w = use(hw, 'fakeQuant', 'f32');
      if (!(Number.isInteger(groupSize) && groupSize > 0)) {
        throw new LmqError('argument/option', 'groupSize is out of range', {
          op: 'fakeQuant',
          expected: 'a positive integer',
          found: groupSize,
        });
      }
      const { scales, zeroPoints, maxCode } = grid(g, 'fakeQuant', w.rows, Math.ceil(w.cols / groupSize));
      const codes = hcodes ? use(hcodes, 'fakeQuant', 'u8') : null;
      if (codes) same(w, codes, 'fakeQuant');
      const out = like(w);
      kernels.fakeQuant(out, codes, w, scales, zeroPoints, groupSize, maxCode);
      return out;
    },
    obsSweep(hw, hu, o) {
      const w = use(hw, 'obsSweep', 'f32');
      const u = use(hu, 'obsSweep', 'f32');
      const errors = use(o.errors, 'obsSweep', 'f32');
      const codes = use(o.codes, 'obsSweep', 'u8');
      if (u.rows !== w.cols || u.cols !== w.cols) fail('obsSweep', 'u does not fit w', `${w.cols} x ${w.cols}`, shape(u));
      const ordered = o.start >= 0 && o.start < o.end && o.end <= o.blockEnd && o.blockEnd <= w.cols;
      if (!ordered || ![o.start, o.end, o.blockEnd].every(Number.isInteger)) {
        fail('obsSweep', 'columns are out of order', `0 <= start < end <= blockEnd <= ${w.cols}`, `${o.start}, ${o.end}, ${o.blockEnd}`);
      }
      if (errors.rows !== w.rows || errors.cols !== o.end - o.start)
        fail('obsSweep', 'errors does not fit', `${w.rows} x ${o.end - o.start}`, shape(errors));
      same(errors, codes, 'obsSweep');
      const { scales, zeroPoints, maxCode } = grid(o.grid, 'obsSweep', w.rows, 1);
      kernels.obsSweep(w, u, errors, codes, scales, zeroPoints, maxCode, o.start, o.end, o.blockEnd);
    },

    linear(hx, lw) {
      const x = use(hx, 'linear', 'f32');
      const packed = loaded(lw, 'linear');
      if (x.cols !== lw.in) fail('linear', 'the input does not fit the weight', `width ${lw.in}`, `width ${x.cols}`);
      const out = make(x.rows, lw.out);
      kernels.linear(out, x, packed);
      return out;
    },
    embedding(lw, ids) {
      const packed = loaded(lw, 'embedding');
      const out = make(ids.length, lw.in);
      kernels.embedding(out, packed, indices(ids, lw.out, 'embedding'));
      return out;
    },
    rmsNorm(hx, hweight, eps) {
      const x = use(hx, 'rmsNorm', 'f32');
      const weight = use(hweight, 'rmsNorm', 'f32');
      if (weight.rows !== 1 || weight.cols !== x.cols) fail('rmsNorm', 'weight does not fit x', `1 x ${x.cols}`, shape(weight));
      const out = like(x);
      kernels.rmsNorm(out, x, weight, eps);
      return out;
    },
    rope(hx, hcos, hsin, { headDim, style, position = 0 }) {
      const x = use(hx, 'rope', 'f32');
      const cos = use(hcos, 'rope', 'f32');
      const sin = use(hsin, 'rope', 'f32');
      same(cos, sin, 'rope');
      if (x.cols % headDim !== 0) fail('rope', 'width is not a number of heads', `a multiple of ${headDim}`, x.cols);
      if (2 * cos.cols > headDim) fail('rope', 'the table is wider than a head', `at most ${headDim / 2} columns`, cos.cols);
      if (!Number.isInteger(position) || position < 0 || position + x.rows > cos.rows)
        fail('rope', 'positions leave the table', `0 … ${cos.rows - 1}`, `${position} … ${position + x.rows - 1}`);
      kernels.rope(x, cos, sin, headDim, style === 'interleaved', position);
    },
    attention(hq, hk, hv, o) {
      const q = use(hq, 'attention', 'f32');
      const k = use(hk, 'attention', 'f32');
      const v = use(hv, 'attention', 'f32');
      const { heads, kvHeads, headDim, position = 0, scale = 1 / Math.sqrt(o.headDim) } = o;
      if (q.cols !== heads * headDim) fail('attention', 'q does not fit the heads', `width ${heads * headDim}`, `width ${q.cols}`);
      if (heads % kvHeads !== 0) fail('attention', 'heads is not a multiple of kvHeads', kvHeads, heads);
      if (k.cols !== kvHeads * headDim) fail('attention', 'k does not fit the heads', `width ${kvHeads * headDim}`, `width ${k.cols}`);
      if (k.rows !== position + q.rows) fail('attention', 'k does not reach the last query', `${position + q.rows} rows`, `${k.rows} rows`);
      same(k, v, 'attention');
      const out = like(q);
      kernels.attention(out, q, k, v, { heads, kvHeads, headDim, position, scale });
      return out;
    },
    swiglu(hgate, hup) {
      const gate = use(hgate, 'swiglu', 'f32');
      const up = use(hup, 'swiglu', 'f32');
      same(gate, up, 'swiglu');
      const out = like(gate);
      kernels.swiglu(out, gate, up);
      return out;
    },
    softmax(hx) {
      const x = use(hx, 'softmax', 'f32');
      const out = like(x);
      kernels.softmax(out, x);
      return out;
    },
  };
  adopters.set(scope, (slot) => {
    alive('keep');
    const mine = slot as Slot<B>;
    mine.scope = scope;
    owned.add(mine);
  });
  return scope;
}

/** How a scope takes over a handle: known to this module only. */
const adopters = new WeakMap<Scope, (slot: Slot<unknown>) => void>();
function adopt(to: Scope, slot: Slot<unknown>): void {
  const take = adopters.get(to);
  if (!take) throw new LmqError('handle/foreign', 'not a scope of this library copy', { op: 'keep' });
  take(slot);
}

/** Views may share a buffer with the output of a gemm only side by side. */
function disjoint(out: Mat<unknown>, other: Mat<unknown>, op: string): void {
  const rowsApart = (a: Mat<unknown>, b: Mat<unknown>) => a.offset + (a.rows - 1) * a.stride + a.cols <= b.offset;
  const c0 = out.offset % out.stride;
  const c1 = other.offset % other.stride;
  const columnsApart = out.stride === other.stride && (c0 + out.cols <= c1 || c1 + other.cols <= c0);
  if (rowsApart(out, other) || rowsApart(other, out) || columnsApart) return;
  throw new LmqError('argument/shape', 'out overlaps an operand', { op, hint: 'Write to a matrix of its own.' });
}
