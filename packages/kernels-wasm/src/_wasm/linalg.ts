/**
 * Cholesky factor and inverse of a triangular matrix by recursion on halves (Gustavson 1997): nearly all work becomes products of large
 * blocks. Base cases of 64 with f64 sums; between blocks, f32 accumulators. n³ / 3 operations each.
 * @module
 */
import { type Core, f32, KC, step, type WasmMat, withScratch } from './core.js';
import { ALL, blockDepth, panelOffset, product } from './gemm.js';

const SMALL = 64; // the most that solveSmall takes

/** Where to cut n > SMALL in two: a multiple of SMALL, at least half. */
function half(n: number): number {
  return SMALL * Math.ceil(n / (2 * SMALL));
}

/** Writes lower L with A = L Lᵀ into a zero-filled `out`. False when A is not positive definite; `out` is not to be used then. */
export function cholesky(core: Core, out: WasmMat, a: WasmMat): boolean {
  const n = a.rows;
  const [to, from] = [f32(out), f32(a)];
  for (let r = 0; r < n; r += SMALL) {
    const count = Math.min(SMALL, n - r);
    core.queue.select(to + r * step(out), step(out), from + r * step(a), step(a), count, r + count, 0, 0);
  }
  core.join();
  const ok = factor(core, to, step(out), n);
  const data = core.memory.f32();
  // above the diagonal are the rest of a copied block and tiles of products that touch the lower triangle, nothing further right
  for (let r = 0, at = to / 4 + 1; r < n; r++, at += out.stride + 1) data.fill(0, at, at + Math.min(SMALL, n - 1 - r));
  return ok;
}

function factor(core: Core, a: number, stride: number, n: number): boolean {
  if (n <= SMALL) return core.wasm.choleskySmall(a, stride, n) !== 0;
  const n1 = half(n);
  const below = a + n1 * stride;
  const rest = below + n1 * 4;
  if (!factor(core, a, stride, n1)) return false;
  solveRight(core, a, n1, below, n - n1, stride);
  const left = { at: below, stride, transposed: false };
  product(core, n - n1, n - n1, n1, left, { ...left, transposed: true }, { at: rest, stride }, { alpha: -1, beta: 1, lowerC: true });
  return factor(core, rest, stride, n - n1);
}

/** B [rows, n] ← B L⁻ᵀ, L [n, n] lower triangular; equal strides. n is a multiple of SMALL, or less. */
function solveRight(core: Core, l: number, n: number, b: number, rows: number, stride: number): void {
  if (n <= CHAINED) {
    solveRows(core, l, n, b, rows, stride);
    return;
  }
  const n1 = half(n);
  solveRight(core, l, n1, b, rows, stride);
  const l21 = { at: l + n1 * stride, stride, transposed: true };
  product(core, rows, n - n1, n1, { at: b, stride, transposed: false }, l21, { at: b + n1 * 4, stride }, { alpha: -1, beta: 1 });
  solveRight(core, l + n1 * stride + n1 * 4, n - n1, b + n1 * 4, rows, stride);
}

/** Widest L whose blocks are packed beforehand: 2 MB. */
const CHAINED = 1024;

/**
 * The same, a few rows of B at a time from the first column to the last: they stay in one core's cache, where threads would otherwise take turns
 * with them n / SMALL times. Bits as above: each element sees the same products in the same order. Cholesky of 2048, Xeon, Node 24: half the
 * phases, eight threads 28.4 → 25.5 ms; two threads and one as before.
 */
function solveRows(core: Core, l: number, n: number, b: number, rows: number, stride: number): void {
  const { queue, tileRows, work } = core;
  // whole tiles, and solveSmall's 16 rows; where few rows would leave threads without, less than that
  const whole = tileRows % 2 ? 16 * tileRows : 8 * tileRows;
  const each = core.count === 1 ? 240 : Math.min(whole, 16 * Math.ceil(rows / (32 * core.count)));
  const panelBytes = n * n * 2;
  const packedBytes = Math.ceil(each / tileRows) * tileRows * Math.min(KC, half(n)) * 4;
  withScratch(core, panelBytes + Math.ceil(rows / each) * packedBytes, (panels) => {
    /** Packs the blocks of L [m, m] at `at` that lie below its diagonal blocks, as `solve` meets them. Returns the address behind them. */
    const pack = (at: number, m: number, to: number): number => {
      if (m <= SMALL) return to;
      const n1 = half(m);
      const n2 = m - n1;
      const l21 = at + n1 * stride;
      const next = pack(at, n1, to);
      for (let p = 0, kc = blockDepth(n1); p < n1; p += kc)
        queue.packRows(l21 + p * 4, stride, n2, Math.min(kc, n1 - p), next + panelOffset(n2, 0, p, 0), 8);
      return pack(l21 + n1 * 4, n2, next + n1 * n2 * 4);
    };
    pack(l, n, panels);
    core.join();
    /** Solves `count` rows at `row` with L [m, m] at `at`, whose packed blocks begin at `l21`. Returns the address behind these. */
    const solve = (at: number, m: number, row: number, count: number, packed: number, l21: number): number => {
      if (m <= SMALL) {
        queue.solveSmall(at, stride, m, row, stride, count, work);
        return l21;
      }
      const n1 = half(m);
      const n2 = m - n1;
      const right = row + n1 * 4;
      const next = solve(at, n1, row, count, packed, l21);
      for (let p = 0, depth = blockDepth(n1); p < n1; p += depth) {
        const kc = Math.min(depth, n1 - p);
        queue.packRows(row + p * 4, stride, count, kc, packed, tileRows);
        queue.gemmBlock(count, n2, kc, packed, next + panelOffset(n2, 0, p, kc), right, stride, -1, 1, work, ALL);
      }
      return solve(at + n1 * stride + n1 * 4, n2, right, count, packed, next + n1 * n2 * 4);
    };
    for (let r = 0, packed = panels + panelBytes; r < rows; r += each, packed += packedBytes) {
      core.chain(() => solve(l, n, b + r * stride, Math.min(each, rows - r), packed, panels));
    }
    core.join();
  });
}

/** Writes L⁻¹ into a zero-filled `out`: X21 = -X22 L21 X11. Reads the lower triangle of `l`. */
export function triangularInverse(core: Core, out: WasmMat, l: WasmMat): void {
  const n = l.rows;
  const n1 = n > SMALL ? half(n) : 0;
  // for the outermost product, or for the halves of n1 where n - n1 is little: n = 129
  withScratch(core, Math.max(n - n1, n1 / 4) * n1 * 4, (scratch) => invert(core, f32(out), step(out), f32(l), step(l), n, scratch));
}

function invert(core: Core, out: number, outStride: number, l: number, lStride: number, n: number, scratch: number): void {
  if (n <= SMALL) {
    core.wasm.triangularInverseSmall(out, outStride, l, lStride, n);
    return;
  }
  const n1 = half(n);
  const n2 = n - n1;
  const out22 = out + n1 * outStride + n1 * 4;
  invert(core, out, outStride, l, lStride, n1, scratch);
  invert(core, out22, outStride, l + n1 * lStride + n1 * 4, lStride, n2, scratch);
  const middle = { at: scratch, stride: n1 * 4, transposed: false };
  const l21 = { at: l + n1 * lStride, stride: lStride, transposed: false };
  product(core, n2, n1, n1, l21, { at: out, stride: outStride, transposed: false }, middle, { lowerB: true });
  const x22 = { at: out22, stride: outStride, transposed: false };
  product(core, n2, n1, n2, x22, middle, { at: out + n1 * outStride, stride: outStride }, { alpha: -1, lowerA: true });
}
