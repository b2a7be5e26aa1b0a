/**
 * Symmetric weights of 8 bits with one scale a row and a quantized input (W8A8, LLM.int8()), laid out once, on loading, as the product reads them:
 * panels of 8 rows of signed bytes (assembly/packBytes.ts), multiplied as they are with any number of rows of x (assembly/gemmBytes.ts). Where the
 * dot product of bytes takes 8 bits on both sides it is used, else that of 16 bits; the sums are exact integers either way, so results are the same.
 * @module
 */
import { type Core, inParts, withScratch } from './core.js';
import { type Output, type Rounded, startAtBias } from './integer.js';
import type { PackedWeight } from './load.js';
import type { Block } from './memory.js';
import type { WasmExports } from './module.js';

/** Columns that are summed in integers, and whose panel, widened to 16 bits, stays in L1 (16 KiB). */
export const DEPTH = 1024;
/** Bytes of codes on their way into panels. */
const STRIP_BYTES = 2 ** 20;
/** Rows of x that make a call as long as a pass over the weight's memory does. */
const ROWS = 16;

export interface BytesWeight {
  kind: 'bytes';
  panels: Block;
  /** Columns of a panel: those of the weight, rounded up to whole blocks of the input. */
  width: number;
  /** f32, one a row, and zeros up to whole panels. */
  scales: Block;
  /** i32 [depths, rows in whole panels]: sums of a row over DEPTH columns each. */
  sums: Block;
}

/** Grids of the input's rows: where the least code, less the zero point, of the first is (f32), and bytes from row to row. */
export interface Grids {
  least: number;
  step: number;
}

/**
 * @param codes rows of bytes, zero point 128
 * @param take allocates
 */
export function packBytes(
  core: Core,
  codes: Uint8Array,
  scales: Float32Array,
  rows: number,
  cols: number,
  take: (bytes: number, zero: boolean) => Block,
): BytesWeight {
  const { wasm, memory } = core;
  const width = Math.ceil(cols / 32) * 32;
  const padded = Math.ceil(rows / 8) * 8;
  const depths = Math.ceil(width / DEPTH);
  const packed = { panels: take(padded * width, false), scales: take(padded * 4, true), sums: take(depths * padded * 4, false) };
  memory.f32().set(scales, packed.scales.address / 4);
  const strip = 8 * Math.max(1, Math.floor(STRIP_BYTES / (cols * 8)));
  withScratch(core, Math.min(strip, rows) * cols, (scratch) => {
    for (let r = 0; r < rows; r += strip) {
      const count = Math.min(strip, rows - r);
      memory.u8().set(codes.subarray(r * cols, (r + count) * cols), scratch);
      wasm.packBytes(scratch, cols, count, cols, width, packed.panels.address + r * width);
    }
  });
  for (let d = 0; d < depths; d++) {
    for (let r = 0; r < padded; r += 8) {
      const from = packed.panels.address + r * width + d * DEPTH * 8;
      wasm.panelSums(from, Math.min(DEPTH, width - d * DEPTH), packed.sums.address + (d * padded + r) * 4);
    }
  }
  return { kind: 'bytes', width, ...packed };
}

/** y ← x Wᵀ + bias. */
export function bytesLinear(core: Core, y: Output, x: Rounded, grids: Grids, form: BytesWeight, w: PackedWeight): void {
  const { panels, width, scales, sums } = form;
  const { dots, byteTileRows, work } = core;
  const bytes = dots === 'unsigned' || (dots === 'signed' && x.rounding.bytes);
  const each = bytes ? width : width * 2; // bytes of a packed row
  startAtBias(core, y, w);
  withScratch(core, x.rows * (each + 4), (a) => {
    const shifts = a + x.rows * each;
    const pack = (kernels: WasmExports, r: number, count: number) => {
      const [from, to] = [x.codes + r * x.stride, a + r * each];
      if (!bytes) kernels.packWideInput(from, x.stride, count, width, to);
      else {
        const least = grids.least + r * grids.step;
        kernels.packBytesInput(from, x.stride, count, width, least, grids.step, dots === 'signed' ? 1 : 0, to, shifts + r * 4);
      }
    };
    inParts(core, x.rows, width, pack, byteTileRows);
    const sumsStride = Math.ceil(w.out / 8) * 32;
    const multiply = (kernels: WasmExports, r: number, count: number) => {
      const [q, s, by, to] = [panels.address + r * width, sums.address + r * 4, scales.address + r * 4, y.at + r * 4];
      const [first, step] = [bytes ? shifts : 0, x.scalesStride];
      kernels.gemmBytes(x.rows, count, width, DEPTH, a, first, x.scales, step, q, s, sumsStride, by, to, y.stride, work);
    };
    inParts(core, w.out, width * Math.ceil(x.rows / ROWS), multiply, 8);
  });
}

/** Rows [row, row + rows) as f32 [rows, count]: columns of a list of i32 at address `columns`, or with 0 there the first. */
export function decodeBytes(
  kernels: WasmExports,
  { panels, width, scales }: BytesWeight,
  row: number,
  rows: number,
  columns: number,
  count: number,
  to: number,
): void {
  kernels.decodeBytes(panels.address, width, scales.address, row, rows, columns, count, to);
}
