/**
 * The ops of a scope: each checks the shapes of what it is given, allocates its output and calls the kernel.
 * @module
 */
import { disjoint, fail, indices, type Slot, same, shape } from './_slots.js';
import type { AffineGrid, Handle, HandleType, LoadedLinear, Scope } from './backend.js';
import { LmqError } from './errors.js';
import type { Kernels } from './kernels.js';
import { checkOneOf } from './options.js';

/** What ops need of their scope. */
export interface ScopeCore<B, L> {
  /** The slot behind a handle, if it is alive, of this backend and of the wanted type. */
  use(h: Handle, op: string, type?: HandleType): Slot<B>;
  /** The packed weight behind a loaded linear. */
  loaded(w: LoadedLinear, op: string): L;
  /** A new matrix, owned by the scope. */
  make(rows: number, cols: number, type?: HandleType): Slot<B>;
}

type Ops = Pick<
  Scope,
  | 'gemm'
  | 'syrk'
  | 'cholesky'
  | 'triangularInverse'
  | 'select'
  | 'scatterAdd'
  | 'addTo'
  | 'fakeQuant'
  | 'obsSweep'
  | 'linear'
  | 'embedding'
  | 'rmsNorm'
  | 'rope'
  | 'attention'
  | 'glu'
  | 'softmax'
>;

export function createOps<B, L>(kernels: Kernels<B, L>, { use, loaded, make }: ScopeCore<B, L>): Ops {
  const codesOf = (bits: number, op: string) => {
    if (Number.isInteger(bits) && bits >= 1 && bits <= 8) return 2 ** bits;
    throw new LmqError('argument/option', 'bits is out of range', { op, expected: '1 … 8', found: bits });
  };
  const grid = (g: AffineGrid, op: string, rows: number, groups: number) => {
    const scales = use(g.scales, op, 'f32');
    const zeroPoints = use(g.zeroPoints, op, 'f32');
    if (scales.rows !== rows || scales.cols !== groups) fail(op, 'scales do not fit the weight', `${rows} x ${groups}`, shape(scales));
    same(scales, zeroPoints, op);
    return { scales, zeroPoints, maxCode: codesOf(g.bits, op) - 1 };
  };

  return {
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
      const factor = make(a.rows, a.cols);
      return { factor, ok: kernels.cholesky(factor, a) };
    },
    triangularInverse(hl) {
      const l = use(hl, 'triangularInverse', 'f32');
      if (l.rows !== l.cols) fail('triangularInverse', 'the matrix is not square', `${l.rows} x ${l.rows}`, shape(l));
      const out = make(l.rows, l.cols);
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
      const out = make(w.rows, w.cols);
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
      if ('tables' in o.grid) {
        const tables = use(o.grid.tables, 'obsSweep', 'f32');
        const most = codesOf(o.grid.bits, 'obsSweep');
        if (tables.rows !== w.rows || tables.cols < 1 || tables.cols > most)
          fail('obsSweep', 'tables do not fit the weight', `${w.rows} x at most ${most}`, shape(tables));
        kernels.obsSweepTable(w, u, errors, codes, tables, o.start, o.end, o.blockEnd);
        return;
      }
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
      const out = make(x.rows, x.cols);
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
      const { heads, kvHeads, headDim, position = 0, scale = 1 / Math.sqrt(o.headDim), window = k.rows } = o;
      if (!(Number.isInteger(window) && window >= 1))
        throw new LmqError('argument/option', 'window is out of range', { op: 'attention', expected: 'a positive integer', found: window });
      if (q.cols !== heads * headDim) fail('attention', 'q does not fit the heads', `width ${heads * headDim}`, `width ${q.cols}`);
      if (heads % kvHeads !== 0) fail('attention', 'heads is not a multiple of kvHeads', kvHeads, heads);
      if (k.cols !== kvHeads * headDim) fail('attention', 'k does not fit the heads', `width ${kvHeads * headDim}`, `width ${k.cols}`);
      if (k.rows !== position + q.rows) fail('attention', 'k does not reach the last query', `${position + q.rows} rows`, `${k.rows} rows`);
      same(k, v, 'attention');
      const out = make(q.rows, q.cols);
      kernels.attention(out, q, k, v, { heads, kvHeads, headDim, position, scale, window });
      return out;
    },
    glu(hgate, hup, activation = 'silu') {
      const gate = use(hgate, 'glu', 'f32');
      const up = use(hup, 'glu', 'f32');
      checkOneOf(activation, 'activation', ['silu', 'gelu-tanh'], 'glu');
      same(gate, up, 'glu');
      const out = make(gate.rows, gate.cols);
      kernels.glu(out, gate, up, activation);
      return out;
    },
    softmax(hx) {
      const x = use(hx, 'softmax', 'f32');
      const out = make(x.rows, x.cols);
      kernels.softmax(out, x);
      return out;
    },
  };
}
