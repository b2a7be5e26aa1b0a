/**
 * Blocked matrix product (Goto and van de Geijn 2008) around the packed kernels of assembly/gemm.ts. The loops over blocks are here, so a
 * call into WebAssembly does at most 2 MC NC KC = 47 million operations. f32 accumulators: ascending k within blocks of at most KC, one
 * rounding of alpha times the block's sum added to C per block. An element does not depend on the size of the matrix around it.
 * @module
 */
import { type Core, f32, KC, MC, NC, step, type WasmMat } from './core.js';

/** A checked f32 matrix by address and row stride in bytes; `transposed` says that rows run along its columns. */
export interface Operand {
  at: number;
  stride: number;
  transposed: boolean;
}

/** B [k, cols] packed already, once: blocks of `blockDepth(k)` rows, one after another, each in panels of 8 columns. */
export interface Panels {
  at: number;
  /** Rounded up to whole panels. */
  cols: number;
  panels: true;
}

/** Bytes from the start of packed B to column j (a multiple of 8) of a block of kc rows that starts at row k. */
export function panelOffset(cols: number, j: number, k: number, kc: number): number {
  return (k * cols + j * kc) * 4;
}

/** Packs columns [j, j + n) and rows [k, k + kc) of B into panels of 8 columns at `to`. */
export type PackB = (j: number, n: number, k: number, kc: number, to: number) => void;

export interface ProductOpts {
  alpha?: number;
  beta?: number;
  /** Only tiles that touch the lower triangle of C are computed; what other tiles hold is undefined. */
  lowerC?: boolean;
  /** A, B are lower triangular: zero blocks are skipped. */
  lowerA?: boolean;
  lowerB?: boolean;
}

/** C [m, n] ← alpha A [m, k] B [k, n] + beta C. C overlaps neither A nor B. */
export function product(
  core: Core,
  m: number,
  n: number,
  k: number,
  a: Operand,
  b: Operand | Panels | PackB,
  c: { at: number; stride: number },
  { alpha = 1, beta = 0, lowerC = false, lowerA = false, lowerB = false }: ProductOpts = {},
): void {
  const { wasm, packedA, packedB, edge, tileRows } = core;
  const panels = 'panels' in b ? b : null;
  const packB = 'panels' in b ? null : typeof b === 'function' ? b : packOperandB(core, b);
  const depth = blockDepth(k);
  for (let j = 0; j < n; j += NC) {
    const nc = Math.min(NC, n - j);
    const first = lowerB ? Math.min(k, Math.floor(j / depth) * depth) : 0;
    let p = first;
    do {
      const kc = Math.min(depth, k - p);
      packB?.(j, nc, p, kc, packedB);
      const from = panels ? panels.at + panelOffset(panels.cols, j, p, kc) : packedB;
      for (let i = lowerC ? Math.floor(j / MC) * MC : 0; i < m; i += MC) {
        const mc = Math.min(MC, m - i);
        if (lowerA && p >= i + mc && p > first) continue;
        if (a.transposed) wasm.packColumns(a.at + p * a.stride + i * 4, a.stride, mc, kc, packedA, tileRows);
        else wasm.packRows(a.at + i * a.stride + p * 4, a.stride, mc, kc, packedA, tileRows);
        const at = c.at + i * c.stride + j * 4;
        const below = lowerC ? i - j : ALL;
        wasm.gemmBlock(mc, nc, kc, packedA, from, at, c.stride, alpha, p === first ? beta : 1, edge, below);
      }
      p += depth;
    } while (p < k);
  }
}

/** No tile lies above column = row + ALL. */
const ALL = 2 ** 30;

/** Equal blocks of k, at most KC long, a multiple of 8 (so that 4-bit codes start on bytes). */
export function blockDepth(k: number): number {
  const blocks = Math.max(1, Math.ceil(k / KC));
  return Math.max(8, Math.ceil(k / blocks / 8) * 8);
}

function packOperandB({ wasm }: Core, b: Operand): PackB {
  return (j, n, k, kc, to) => {
    if (b.transposed) wasm.packRows(b.at + j * b.stride + k * 4, b.stride, n, kc, to, 8);
    else wasm.packColumns(b.at + k * b.stride + j * 4, b.stride, n, kc, to, 8);
  };
}

/** out ← alpha op(A) op(B) + beta out. */
export function gemm(
  core: Core,
  out: WasmMat,
  a: WasmMat,
  b: WasmMat,
  transposeA: boolean,
  transposeB: boolean,
  alpha: number,
  beta: number,
): void {
  const k = transposeA ? a.rows : a.cols;
  product(
    core,
    out.rows,
    out.cols,
    k,
    { at: f32(a), stride: step(a), transposed: transposeA },
    { at: f32(b), stride: step(b), transposed: transposeB },
    { at: f32(out), stride: step(out) },
    { alpha, beta },
  );
}

/** h ← beta h + alpha XᵀX. The lower triangle is computed and mirrored: a symmetric h stays symmetric to the bit. */
export function syrk(core: Core, h: WasmMat, x: WasmMat, alpha: number, beta: number): void {
  const at = f32(h);
  const from = f32(x);
  product(
    core,
    h.rows,
    h.rows,
    x.rows,
    { at: from, stride: step(x), transposed: true },
    { at: from, stride: step(x), transposed: false },
    { at, stride: step(h) },
    { alpha, beta, lowerC: true },
  );
  core.wasm.mirror(at, step(h), h.rows);
}
