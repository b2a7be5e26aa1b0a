/**
 * The backend in SIMD WebAssembly. One instance of the module over one memory of at most 4 GiB; arithmetic runs at the call, on the calling
 * thread, in f32 (f64 sums in rmsNorm and in the base cases of Cholesky and triangular inverse).
 * @module
 */
import { type Backend, defineBackend, LmqError } from '@lmq/tensor';
import { createCore } from './_wasm/core.js';
import { createKernels } from './_wasm/kernels.js';
import { createMemory } from './_wasm/memory.js';
import { instantiate } from './_wasm/module.js';
import { WASM_SIMD128 } from './generated/simd128.js';

export interface WasmBackendOpts {
  /** The memory grows up to this many bytes. Default and most: 4 GiB less 64 KiB. */
  maxMemoryBytes?: number;
}

/** Bytes at the bottom of the memory that belong to the module. */
const RESERVED = 65536;

/**
 * A backend of SIMD WebAssembly, variant `wasm-simd128`. Inputs are not quantized (`load` throws `backend/unsupported` for `Linear.input`).
 * @throws LmqError `backend/unsupported` where WebAssembly SIMD is missing, `backend/memory` when the engine gives no memory,
 * `argument/option` for a limit out of range
 */
export async function wasmBackend({ maxMemoryBytes }: WasmBackendOpts = {}): Promise<Backend> {
  const memory = createMemory(maxMemoryBytes, RESERVED);
  const wasm = await instantiate(WASM_SIMD128, memory.memory);
  if (wasm.heapBase() > RESERVED) {
    throw new LmqError('backend/unsupported', 'the module needs more memory of its own than is set aside', {
      op: 'wasmBackend',
      expected: `at most ${RESERVED} bytes`,
      found: wasm.heapBase(),
    });
  }
  return defineBackend(createKernels(createCore(wasm, memory), 'wasm-simd128'));
}
