/**
 * What every kernel's JavaScript half needs: the module, the memory, and standing work space for packed panels.
 * @module
 */
import type { Mat } from '@lmq/tensor';
import { type Block, addressOf as check, type WasmMemory } from './memory.js';
import type { WasmExports } from './module.js';

/** A matrix in this backend's memory. */
export type WasmMat = Mat<Block>;

/** Block sizes of gemm: a KC x 8 panel of B (12 KiB) stays in L1, an MC x KC block of A (180 KiB) and KC x NC of B (768 KiB) in L2. */
export const KC = 384;
export const MC = 120; // a multiple of 5 and 6: tileRows
export const NC = 512;

export interface Core {
  readonly wasm: WasmExports;
  readonly memory: WasmMemory;
  /** Packed A: MC x KC. */
  readonly packedA: number;
  /** Packed B: KC x NC; or an unpacked block of codes and its scales (integer.ts). */
  readonly packedB: number;
  /** One decoded tile of a weight, row-major: NC x KC. */
  readonly tile: number;
  /** One tile of at most 6 x 8. */
  readonly edge: number;
  /** Rows of a panel of packed A, of floats and of codes. */
  readonly tileRows: number;
  readonly codeTileRows: number;
}

export function createCore(wasm: WasmExports, memory: WasmMemory): Core {
  const take = (floats: number) => memory.allocate(4 * floats, false).address;
  const rows = { tileRows: wasm.tileRows(), codeTileRows: wasm.codeTileRows() };
  return { wasm, memory, packedA: take(MC * KC), packedB: take(KC * NC), tile: take(NC * KC), edge: take(48), ...rows };
}

/** Address of a checked matrix of f32. */
export const f32 = (mat: WasmMat): number => check(mat, 4);
/** Address of a checked matrix of bytes. */
export const u8 = (mat: WasmMat): number => check(mat, 1);
/** Bytes from row to row of an f32 matrix. */
export const step = (mat: WasmMat): number => mat.stride * 4;

/** Runs `work` with `bytes` of memory (not zeroed) and gives it back. */
export function withScratch<T>({ memory }: Core, bytes: number, work: (address: number) => T): T {
  const block = memory.allocate(bytes, false);
  try {
    return work(block.address);
  } finally {
    memory.release(block);
  }
}

/** Runs `work` with copies of index or factor lists in memory; null becomes address 0. */
export function withLists<T>(core: Core, lists: (Int32Array | Float32Array | null)[], work: (addresses: number[]) => T): T {
  const sizes = lists.map((list) => (list ? Math.ceil(Math.max(list.byteLength, 4) / 64) * 64 : 0));
  return withScratch(
    core,
    sizes.reduce((a, b) => a + b, 0),
    (address) => {
      let at = address;
      const addresses = lists.map((list, i) => {
        if (!list) return 0;
        const here = at;
        at += sizes[i]!;
        if (list instanceof Float32Array) core.memory.f32().set(list, here / 4);
        else core.memory.i32().set(list, here / 4);
        return here;
      });
      return work(addresses);
    },
  );
}

/** Elements that one call of a light kernel handles: a few milliseconds. */
const CALL_ELEMENTS = 2 ** 20;

/**
 * Splits rows so that no call into WebAssembly runs long: engines replace their quick first code by optimized code only between calls.
 * @param perRow elements of work per row
 * @param multiple rows of a part, but for the last, are a multiple of this
 */
export function inParts(rows: number, perRow: number, work: (from: number, count: number) => void, multiple = 4): void {
  const count = Math.max(multiple, Math.floor(CALL_ELEMENTS / Math.max(perRow, 1) / multiple) * multiple);
  for (let from = 0; from < rows; from += count) work(from, Math.min(count, rows - from));
}
