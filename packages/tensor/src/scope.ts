/**
 * The half of every backend that is not arithmetic: handle lifetimes, shape checks (_ops.ts), cancellation. A backend supplies
 * {@link Kernels}; `defineBackend` makes a {@link Backend} of them, so the rules are the same everywhere and a kernel never sees a wrong shape.
 * @module
 */
import { createOps } from './_ops.js';
import { fail, type Slot, shape } from './_slots.js';
import type { Backend, Handle, HandleType, LoadedLinear, LoadOpts, Scope, ScopeOpts } from './backend.js';
import { LmqError } from './errors.js';
import { checkInputQuant } from './input-quant.js';
import type { Kernels } from './kernels.js';
import type { Linear } from './layouts.js';
import { contiguous, matrixShape, type NdArray, ndarray, type Tensor, type TypedArray } from './ndarray.js';
import { checkOneOf } from './options.js';

/** Longest stretch of work without letting the event loop run. */
const YIELD_AFTER_MS = 40;

/** Makes a backend of kernels. */
export function defineBackend<B, L>(kernels: Kernels<B, L>): Backend {
  const backend: Backend = {
    variant: kernels.variant,
    threads: kernels.threads ?? 1,
    scope: (opts = {}) => createScope(kernels, backend, opts),
    load: (linear, opts = {}) => loadLinear(kernels, backend, linear, opts),
    dispose: () => kernels.dispose?.(),
  };
  return backend;
}

interface LoadedSlot<L> extends LoadedLinear {
  backend: Backend;
  packed: L;
  freed: boolean;
}

function loadLinear<B, L>(kernels: Kernels<B, L>, backend: Backend, linear: Linear, { activations = 'float32' }: LoadOpts): LoadedLinear {
  checkOneOf(activations, 'activations', ['float32', 'int16', 'int8'], 'load');
  const [out, width] = linear.weight.shape;
  if (linear.bias && linear.bias.length !== out) {
    throw new LmqError('argument/shape', 'bias does not fit the weight', { op: 'load', expected: out, found: linear.bias.length });
  }
  checkInputQuant(linear, 'load');
  const { packed, bytes, outliers } = kernels.load(linear, activations);
  const slot: LoadedSlot<L> = {
    out,
    in: width,
    bytes,
    ...(outliers && { outliers }),
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
    reshape(h, rows, cols) {
      alive('reshape');
      const of = use(h, 'reshape');
      if (of.of) fail('reshape', 'a view has gaps between its rows', 'a matrix of its own', 'a view');
      if (rows * cols !== of.rows * of.cols) fail('reshape', 'sizes differ', of.rows * of.cols, `${rows} x ${cols}`);
      const slot: Slot<B> = { ...of, rows, cols, stride: cols, scope, of };
      owned.add(slot);
      return slot;
    },
    copy(h) {
      const from = use(h, 'copy');
      const to = make(from.rows, from.cols, from.type);
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

    ...createOps(kernels, { use, loaded, make }),
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
