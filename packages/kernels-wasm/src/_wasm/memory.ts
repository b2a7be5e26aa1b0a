/**
 * Memory of the backend: an allocator over one WebAssembly.Memory, kept on the JavaScript side. Best fit over an address-ordered free
 * list, neighbours joined when freed, 64-byte alignment, growth on demand up to a limit. Nothing is stored in the memory itself, so what a
 * kernel writes cannot damage the lists.
 *
 * Views are made anew after each growth: growing detaches the old buffer. Take them after the last allocation before a use.
 * @module
 */
import { LmqError, type Mat } from '@lmq/tensor';

/** An allocation. */
export interface Block {
  /** First byte; a multiple of 64. */
  readonly address: number;
  /** Bytes asked for. */
  readonly bytes: number;
  live: boolean;
}

export interface WasmMemory {
  readonly memory: WebAssembly.Memory;
  /**
   * Takes memory. Zero-filled unless `zero` is false.
   * @throws LmqError `backend/memory`
   */
  allocate(bytes: number, zero?: boolean): Block;
  /** Gives memory back; a second time does nothing. */
  release(block: Block): void;
  f32(): Float32Array<ArrayBuffer>;
  i32(): Int32Array<ArrayBuffer>;
  u8(): Uint8Array<ArrayBuffer>;
  /** Free extents by address, for tests and diagnosis. */
  freeList(): readonly Extent[];
  /** Bytes in live blocks, rounded to the alignment. */
  used(): number;
}

export interface Extent {
  address: number;
  bytes: number;
}

const PAGE = 65536;
const ALIGN = 64;
/** Growth by less than this would only be repeated. */
const STEP = 64 * PAGE;
/** What 32-bit addresses reach, less a page: sizes then fit in 32 bits too. */
export const MAX_MEMORY_BYTES = 2 ** 32 - PAGE;

/**
 * @param maxBytes growth stops here; rounded down to 64 KiB
 * @param shared to be shared with worker threads
 * @param reserved bytes at the bottom that are never given out: the module's own data
 * @throws LmqError `argument/option` for a limit out of range, `backend/memory` when the engine gives no memory at all
 */
export function createMemory(maxBytes = MAX_MEMORY_BYTES, reserved = PAGE, shared = false): WasmMemory {
  if (!(Number.isSafeInteger(maxBytes) && maxBytes >= reserved + PAGE && maxBytes <= MAX_MEMORY_BYTES)) {
    throw new LmqError('argument/option', 'maxMemoryBytes is out of range', {
      op: 'wasmBackend',
      expected: `an integer in ${reserved + PAGE} … ${MAX_MEMORY_BYTES}`,
      found: maxBytes,
    });
  }
  const maximum = Math.floor(maxBytes / PAGE);
  const initial = Math.ceil(reserved / PAGE);
  const memory = newMemory(initial, maximum, shared);
  const free: Extent[] = [];
  let end = initial * PAGE;
  if (end > reserved) free.push({ address: align(reserved), bytes: end - align(reserved) });
  /** Everything from here on has never been given out, so it is still zero. */
  let clean = align(reserved);
  let inUse = 0;

  let f32 = new Float32Array(memory.buffer);
  let i32 = new Int32Array(memory.buffer);
  let u8 = new Uint8Array(memory.buffer);
  const refresh = () => {
    if (u8.buffer === memory.buffer) return;
    f32 = new Float32Array(memory.buffer);
    i32 = new Int32Array(memory.buffer);
    u8 = new Uint8Array(memory.buffer);
  };

  const findBest = (size: number): number => {
    let best = -1;
    for (let i = 0; i < free.length; i++) {
      const bytes = free[i]!.bytes;
      if (bytes >= size && (best < 0 || bytes < free[best]!.bytes)) best = i;
      if (bytes === size) break;
    }
    return best;
  };
  /** Adds an extent to the list and joins it with its neighbours. */
  const give = (address: number, bytes: number) => {
    let lo = 0;
    for (let hi = free.length; lo < hi; ) {
      const mid = (lo + hi) >> 1;
      if (free[mid]!.address < address) lo = mid + 1;
      else hi = mid;
    }
    const before = free[lo - 1];
    const after = free[lo];
    const joinsBefore = before !== undefined && before.address + before.bytes === address;
    const joinsAfter = after !== undefined && address + bytes === after.address;
    if (joinsBefore && joinsAfter) {
      before.bytes += bytes + after.bytes;
      free.splice(lo, 1);
    } else if (joinsBefore) before.bytes += bytes;
    else if (joinsAfter) {
      after.address = address;
      after.bytes += bytes;
    } else free.splice(lo, 0, { address, bytes });
  };
  const grow = (size: number): boolean => {
    const last = free[free.length - 1];
    const atEnd = last && last.address + last.bytes === end ? last.bytes : 0;
    const need = Math.ceil((size - atEnd) / PAGE);
    const room = maximum - end / PAGE;
    if (need > room) return false;
    for (const pages of [Math.min(room, Math.max(need, STEP / PAGE)), need]) {
      try {
        memory.grow(pages);
      } catch {
        continue; // the engine has less than the limit allows: try the bare need
      }
      give(end, pages * PAGE);
      end += pages * PAGE;
      refresh();
      return true;
    }
    return false;
  };

  return {
    memory,
    allocate(bytes, zero = true) {
      if (bytes === 0) return { address: align(reserved), bytes: 0, live: true };
      const size = align(bytes);
      let at = findBest(size);
      if (at < 0 && size <= maxBytes && grow(size)) at = findBest(size);
      if (at < 0) {
        throw new LmqError('backend/memory', 'out of memory', {
          op: 'alloc',
          expected: `at most ${maximum * PAGE} bytes in all, ${inUse} in use`,
          found: `${bytes} bytes more`,
          hint: 'Free handles earlier, use smaller batches, or raise maxMemoryBytes.',
        });
      }
      const extent = free[at]!;
      const { address } = extent;
      if (extent.bytes === size) free.splice(at, 1);
      else {
        extent.address += size;
        extent.bytes -= size;
      }
      inUse += size;
      if (zero && address < clean) u8.fill(0, address, Math.min(address + size, clean));
      clean = Math.max(clean, address + size);
      return { address, bytes, live: true };
    },
    release(block) {
      if (!block.live) return;
      block.live = false;
      if (block.bytes === 0) return;
      const size = align(block.bytes);
      inUse -= size;
      give(block.address, size);
    },
    f32: () => f32,
    i32: () => i32,
    u8: () => u8,
    freeList: () => free,
    used: () => inUse,
  };
}

/**
 * Address of a matrix's first element, once it is certain that all of it lies in its allocation. Every pointer that goes to a kernel comes
 * from here or from an allocation of the kernel's own.
 * @param size bytes per element
 * @throws LmqError `argument/shape` when it does not
 */
export function addressOf(mat: Mat<Block>, size: 1 | 4): number {
  const { buffer, offset, rows, cols, stride } = mat;
  const reach = rows > 0 && cols > 0 ? offset + (rows - 1) * stride + cols : 0;
  // false for NaN and for anything negative
  const inside = offset >= 0 && rows >= 0 && cols >= 0 && (stride >= cols || rows <= 1) && reach * size <= buffer.bytes && buffer.live;
  if (inside) return reach === 0 ? buffer.address : buffer.address + offset * size;
  throw new LmqError('argument/shape', 'the matrix leaves its memory', {
    op: 'wasm',
    expected: buffer.live ? `at most ${buffer.bytes} bytes` : 'memory that is not freed',
    found: `${rows} x ${cols}, stride ${stride}, from element ${offset}`,
  });
}

function align(n: number): number {
  return Math.ceil(n / ALIGN) * ALIGN;
}

function newMemory(initial: number, maximum: number, shared: boolean): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial, maximum, shared });
  } catch (cause) {
    throw new LmqError('backend/memory', 'the engine gives no memory', {
      op: 'wasmBackend',
      found: `${maximum} pages at most`,
      hint: 'Pass a smaller maxMemoryBytes.',
      cause,
    });
  }
}
