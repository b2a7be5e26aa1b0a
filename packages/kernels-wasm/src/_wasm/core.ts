/**
 * What every kernel's JavaScript half needs: the module, the memory, and standing work space.
 * @module
 */
import type { Mat } from '@lmq/tensor';
import { type Block, addressOf as check, type WasmMemory } from './memory.js';
import type { WasmExports } from './module.js';
import type { Threads } from './threads.js';

/** A matrix in this backend's memory. */
export type WasmMat = Mat<Block>;

/** Block sizes of gemm: a KC x 8 panel of B (12 KiB) stays in L1, an MC x KC block of A (180 KiB) and KC x NC of B (768 KiB) in L2. */
export const KC = 384;
export const MC = 120; // a multiple of 5 and 6: tileRows
export const NC = 512;

/** By assembly/dotProbe.ts's answer. */
const DOTS = ['none', 'narrow', 'unsigned', 'signed'] as const;
export type Dots = (typeof DOTS)[number];

export interface Core extends Omit<Threads, 'dispose'> {
  /** Kernels that run at the call. What was noted in `queue` must be joined before. */
  readonly wasm: WasmExports;
  readonly memory: WasmMemory;
  /** Packed B: KC x NC. */
  readonly packedB: number;
  /** One decoded tile of a weight, row-major: NC x KC. */
  readonly tile: number;
  /** Small work space of kernels, a part for each thread (assembly/work.ts). */
  readonly work: number;
  /** What the dot product of bytes takes as its second operand, if there is one and it is right: codes of 7 bits, or bytes. */
  readonly dots: Dots;
  /** Rows of a panel of packed A, of floats, of codes and of bytes. */
  readonly tileRows: number;
  readonly codeTileRows: number;
  readonly byteTileRows: number;
}

export function createCore(wasm: WasmExports, memory: WasmMemory, { count, queue, chain, join }: Omit<Threads, 'dispose'>): Core {
  const take = (floats: number) => memory.allocate(4 * floats, false).address;
  const rows = { tileRows: wasm.tileRows(), codeTileRows: wasm.codeTileRows(), byteTileRows: wasm.byteTileRows() };
  return {
    wasm,
    memory,
    count,
    queue,
    chain,
    join,
    packedB: take(KC * NC),
    tile: take(NC * KC),
    work: take((count * wasm.workBytes()) / 4),
    dots: DOTS['dotProbe' in wasm ? wasm.dotProbe(take(12)) : 0]!,
    ...rows,
  };
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

/** Elements that one call of a light kernel handles, at most: a few milliseconds. */
const CALL_ELEMENTS = 2 ** 20;
/** And at least, where there are threads to share with: some ten microseconds, a few times what sharing costs. */
const SHARED_ELEMENTS = 2 ** 15;

/**
 * Elements of a call, for work of so many in all. Many calls a thread: threads are not equally fast on a busy machine, and half a call is what
 * they wait for each other on a quiet one.
 */
function callElements({ count }: Core, all: number): number {
  return count === 1 ? CALL_ELEMENTS : Math.min(CALL_ELEMENTS / 2, Math.max(SHARED_ELEMENTS, all / (8 * count)));
}

/**
 * Splits rows into calls that do not depend on each other. None runs long: engines replace their quick first code by optimized code only
 * between calls.
 * @param perRow elements of work per row
 * @param work notes (or runs) the kernels for `count` rows from `from` on
 * @param multiple rows of a part, but for the last, are a multiple of this
 */
export function inParts(
  core: Core,
  rows: number,
  perRow: number,
  work: (kernels: WasmExports, from: number, count: number) => void,
  multiple = 4,
): void {
  const elements = callElements(core, rows * perRow);
  const count = Math.max(multiple, Math.floor(elements / Math.max(perRow, 1) / multiple) * multiple);
  for (let from = 0; from < rows; from += count) work(core.queue, from, Math.min(count, rows - from));
  core.join();
}
