/**
 * Blocked matrix product (Goto and van de Geijn 2008) around the packed kernels of assembly/gemm.ts. The loops over blocks are here, so a
 * call into WebAssembly does at most 2 MC NC KC = 47 million operations. f32 accumulators: ascending k within blocks of at most KC, one
 * rounding of alpha times the block's sum added to C per block. An element does not depend on the size of the matrix around it.
 * @module
 */
import { type Core, f32, inParts, KC, MC, NC, step, type WasmMat, withScratch } from './core.js';
import type { WasmExports } from './module.js';

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

/** B that has to be decoded first: notes calls that write columns [j, j + n) of B, rows [k, k + kc), as rows of `to`, `stride` bytes apart. */
export type DecodeB = (kernels: WasmExports, j: number, n: number, k: number, kc: number, to: number, stride: number) => void;

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
  b: Operand | Panels | DecodeB,
  c: { at: number; stride: number },
  { alpha = 1, beta = 0, lowerC = false, lowerA = false, lowerB = false }: ProductOpts = {},
): void {
  const { queue, tileRows, work } = core;
  const depth = blockDepth(k);
  // what is packed already may be shared out in one go; what is packed here has to fit packedB
  const width = 'panels' in b && core.count > 1 ? n : NC;
  const strip = Math.min(MC, Math.ceil(m / tileRows) * tileRows);
  const strips = stripsOf(m, k);
  withScratch(core, strips * strip * k * 4, (packedA) => {
    for (let i0 = 0; i0 < m; i0 += strips * MC) {
      const end = Math.min(m, i0 + strips * MC);
      const packed = (i: number, p: number) => packedA + ((i - i0) * k + p * strip) * 4;
      const skipped = (i: number, p: number) => lowerA && !lowerB && p >= i + MC;
      for (let i = i0; i < end; i += MC) {
        const mc = Math.min(MC, m - i);
        for (let p = 0; p < k && !skipped(i, p); p += depth) {
          const kc = Math.min(depth, k - p);
          if (a.transposed) queue.packColumns(a.at + p * a.stride + i * 4, a.stride, mc, kc, packed(i, p), tileRows);
          else queue.packRows(a.at + i * a.stride + p * 4, a.stride, mc, kc, packed(i, p), tileRows);
        }
      }
      for (let j = 0; j < (lowerC ? Math.min(n, end) : n); j += width) {
        const nc = Math.min(width, n - j);
        const first = lowerB ? Math.min(k, Math.floor(j / depth) * depth) : 0;
        const top = lowerC ? Math.max(i0, Math.floor(j / MC) * MC) : i0;
        const part = partOf(core, nc, Math.ceil((end - top) / MC));
        let p = first;
        do {
          const kc = Math.min(depth, k - p);
          const from = 'panels' in b ? b.at + panelOffset(b.cols, j, p, kc) : core.packedB;
          if (!('panels' in b)) packB(core, b, j, nc, p, kc);
          core.join();
          for (let i = top; i < end; i += MC) {
            if (skipped(i, p)) continue;
            const mc = Math.min(MC, m - i);
            for (let q = 0; q < nc; q += part) {
              const at = c.at + i * c.stride + (j + q) * 4;
              const below = lowerC ? i - j - q : ALL;
              if (below + mc <= 0) continue;
              const [pa, pb, pc] = [packed(i, p), from + q * kc * 4, Math.min(part, nc - q)];
              queue.gemmBlock(mc, pc, kc, pa, pb, at, c.stride, alpha, p === first ? beta : 1, work, below);
            }
          }
          core.join();
          p += depth;
        } while (p < k);
      }
    }
  });
}

/** Bytes of packed A at a time. As much as this because B is packed again for each part of A. */
const A_BYTES = 2 ** 24;

/** Blocks of MC rows of A that are packed, in all their columns, before they are multiplied: all or equal parts. */
function stripsOf(m: number, k: number): number {
  const strips = Math.ceil(m / MC);
  const parts = Math.ceil((strips * MC * k * 4) / A_BYTES);
  return Math.ceil(strips / Math.max(1, Math.min(parts, strips)));
}

/** Columns of B that one call takes: all, unless more calls are needed to keep the threads busy. A multiple of 32. */
function partOf({ count }: Core, nc: number, blocks: number): number {
  if (count === 1) return nc;
  const parts = Math.min(16, Math.ceil((16 * count) / blocks)); // the last call of a phase is waited for: calls are short
  return 32 * Math.max(1, Math.ceil(nc / parts / 32));
}

/** No tile lies above column = row + ALL. */
export const ALL = 2 ** 30;

/** Equal blocks of k, at most KC long, a multiple of 8 (so that 4-bit codes start on bytes). */
export function blockDepth(k: number): number {
  const blocks = Math.max(1, Math.ceil(k / KC));
  return Math.max(8, Math.ceil(k / blocks / 8) * 8);
}

/** Packs columns [j, j + n) and rows [k, k + kc) of B into panels of 8 columns, from the `tile` if they have to be decoded there first. */
function packB(core: Core, b: Operand | DecodeB, j: number, n: number, k: number, kc: number): void {
  const { packedB, tile } = core;
  const each = (work: (kernels: WasmExports, q: number, count: number) => void) => inParts(core, n, kc, work, 8);
  if (typeof b === 'function') {
    each((kernels, q, count) => b(kernels, j + q, count, k, kc, tile + q * KC * 4, KC * 4));
    each((kernels, q, count) => kernels.packRows(tile + q * KC * 4, KC * 4, count, kc, packedB + q * kc * 4, 8));
  } else if (b.transposed) {
    each((kernels, q, count) => kernels.packRows(b.at + (j + q) * b.stride + k * 4, b.stride, count, kc, packedB + q * kc * 4, 8));
  } else each((kernels, q, count) => kernels.packColumns(b.at + k * b.stride + (j + q) * 4, b.stride, count, kc, packedB + q * kc * 4, 8));
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
  inParts(core, h.rows, h.rows / 2, (kernels, i, count) => kernels.mirror(at, step(h), i, i + count), 32);
}
