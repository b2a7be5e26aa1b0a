/**
 * The backend in SIMD WebAssembly. One instance of the module over one memory of at most 4 GiB; arithmetic runs at the call, on the calling
 * thread and, with `threads`, on workers over shared memory, in f32 (f64 sums in rmsNorm and in the base cases of Cholesky and triangular inverse; integers where inputs are rounded).
 * @module
 */
import { type Backend, checkInteger, checkOneOf, defineBackend, LmqError } from '@lmq/tensor';
import { createCore } from './_wasm/core.js';
import { createKernels } from './_wasm/kernels.js';
import { createMemory } from './_wasm/memory.js';
import { instantiate } from './_wasm/module.js';
import { canShareMemory, type MakeWorker, oneThread, startThreads } from './_wasm/threads.js';
import { binaryOf, chooseVariant } from './_wasm/variant.js';

export type { MakeWorker };

export interface WasmBackendOpts {
  /** The memory grows up to this many bytes. Default and most: 4 GiB less 64 KiB. */
  maxMemoryBytes?: number;
  /**
   * Which binary runs: `simd128` everywhere, `relaxed` where the engine has relaxed SIMD (fused multiply and add: faster). Default `auto`:
   * the faster one that runs here; pass `simd128` for the same bytes on every machine.
   */
  kernel?: 'auto' | 'simd128' | 'relaxed';
  /**
   * Threads that share the arithmetic, the calling one included. Default 1. Results are the same bytes for any number. Where memory cannot be
   * shared with workers (a page that is not cross-origin isolated) there is one; `Backend.threads` says how many there are.
   */
  threads?: number;
  /** Makes a worker that runs `@lmq/kernels-wasm/worker`. Default: workers made of a text, in a page from a blob: URL. */
  worker?: MakeWorker;
}

/** Bytes at the bottom of the memory that belong to the module. */
const RESERVED = 65536;

/**
 * A backend of SIMD WebAssembly, variant `wasm-simd128` or `wasm-relaxed`. With `threads`, ops throw `backend/lost` once a worker has died.
 * @throws LmqError `backend/unsupported` where WebAssembly SIMD is missing, or `kernel` is `relaxed` and relaxed SIMD is, or a worker cannot start;
 * `backend/memory` when the engine gives no memory; `argument/option` for an option out of range
 */
export async function wasmBackend({ maxMemoryBytes, kernel = 'auto', threads = 1, worker }: WasmBackendOpts = {}): Promise<Backend> {
  checkOneOf(kernel, 'kernel', ['auto', 'simd128', 'relaxed'], 'wasmBackend');
  checkInteger(threads, 'threads', 1, 256, 'wasmBackend');
  const variant = chooseVariant(kernel);
  const shared = threads > 1 && canShareMemory();
  const memory = createMemory(maxMemoryBytes, RESERVED, shared);
  const { wasm, module } = await instantiate(await binaryOf(variant), memory.memory, shared);
  if (wasm.heapBase() > RESERVED) {
    throw new LmqError('backend/unsupported', 'the module needs more memory of its own than is set aside', {
      op: 'wasmBackend',
      expected: `at most ${RESERVED} bytes`,
      found: wasm.heapBase(),
    });
  }
  const pool = shared ? await startThreads(threads, wasm, module, memory.memory, worker) : oneThread(wasm);
  return defineBackend(createKernels(createCore(wasm, memory, pool), `wasm-${variant}`, pool.dispose));
}
