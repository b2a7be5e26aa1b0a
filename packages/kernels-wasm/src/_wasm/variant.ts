/**
 * The two binaries and the choice between them. They come from the same sources (assembly/fma.ts); `relaxed` uses relaxed SIMD's multiply
 * and add, which processors with FMA do in one step.
 * @module
 */
import { LmqError } from '@lmq/tensor';

export type WasmVariant = 'simd128' | 'relaxed';

/** A module of one function: three splats of 0 and an f32x4.relaxed_madd of them. */
const PROBE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // magic, version
  ...[1, 5, 1, 0x60, 0, 1, 0x7b], // type: () → v128
  ...[3, 2, 1, 0], // one function of that type
  ...[10, 19, 1, 17, 0, 0x41, 0, 0xfd, 0x0f, 0x41, 0, 0xfd, 0x0f, 0x41, 0, 0xfd, 0x0f, 0xfd, 0x85, 0x02, 0x0b], // its code
);

/** Whether this engine runs the relaxed binary. Node 20 does not, but for a flag. */
export function hasRelaxed(): boolean {
  return typeof WebAssembly === 'object' && WebAssembly.validate(PROBE);
}

/** @throws LmqError `backend/unsupported` for `relaxed` where the engine does not know it */
export function chooseVariant(kernel: 'auto' | WasmVariant): WasmVariant {
  if (kernel === 'simd128') return kernel;
  if (hasRelaxed()) return 'relaxed';
  if (kernel === 'auto') return 'simd128';
  throw new LmqError('backend/unsupported', 'this engine has no relaxed SIMD', {
    op: 'wasmBackend',
    expected: 'an engine that validates f32x4.relaxed_madd',
    found: 'one that does not',
    hint: "Leave out kernel, or pass 'simd128'. Node has relaxed SIMD from version 22 on.",
  });
}

/** The binary, as base64 text. Only the chosen one is loaded. */
export async function binaryOf(variant: WasmVariant): Promise<string> {
  if (variant === 'relaxed') return (await import('../generated/relaxed.js')).WASM_RELAXED;
  return (await import('../generated/simd128.js')).WASM_SIMD128;
}
