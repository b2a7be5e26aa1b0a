/**
 * Cholesky factor and inverse of a triangular matrix by recursion on halves (Gustavson 1997): nearly all work becomes products of large
 * blocks. Base cases of 64 with f64 sums; between blocks, f32 accumulators. n³ / 3 operations each.
 * @module
 */
import { type Core, f32, inParts, step, type WasmMat, withScratch } from './core.js';
import { product } from './gemm.js';
import type { WasmExports } from './module.js';

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

/** B [rows, n] ← B L⁻ᵀ, L [n, n] lower triangular; equal strides. */
function solveRight(core: Core, l: number, n: number, b: number, rows: number, stride: number): void {
  if (n <= SMALL) {
    const solve = (kernels: WasmExports, r: number, count: number) =>
      kernels.solveSmall(l, stride, n, b + r * stride, stride, count, core.work);
    inParts(core, rows, (n * n) / 4, solve, 16);
    return;
  }
  const n1 = half(n);
  solveRight(core, l, n1, b, rows, stride);
  const l21 = { at: l + n1 * stride, stride, transposed: true };
  product(core, rows, n - n1, n1, { at: b, stride, transposed: false }, l21, { at: b + n1 * 4, stride }, { alpha: -1, beta: 1 });
  solveRight(core, l + n1 * stride + n1 * 4, n - n1, b + n1 * 4, rows, stride);
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
