/**
 * The compiled kernels: their signatures, and how they come to life. The bytes are inlined, so there is nothing to fetch and no bundler to
 * configure. Pages with a content-security policy need `wasm-unsafe-eval`.
 * @module
 */
import { LmqError } from '@lmq/tensor';

type Fn<N extends number, A extends number[] = []> = A['length'] extends N ? (...args: A) => void : Fn<N, [...A, number]>;

/** Exports of assembly/index.ts. Pointers and strides in bytes, counts in elements; see there for the parameters. */
export interface WasmExports {
  heapBase(): number;
  addCsr: Fn<6>;
  addTo: Fn<7>;
  bytesInput: Fn<3>;
  dotProbe(at: number): number;
  attentionRow: Fn<11>;
  attentionScratch(rows: number, keys: number, dim: number): number;
  attentionTile: Fn<17>;
  choleskySmall(a: number, stride: number, n: number): number;
  solveSmall: Fn<7>;
  decodeAffine: Fn<15>;
  decodeBrain: Fn<6>;
  decodeHalf: Fn<6>;
  expRow: Fn<3>;
  decodeBytes: Fn<8>;
  decodeTable: Fn<12>;
  dequantizeInput: Fn<4>;
  fakeQuant: Fn<14>;
  gemmBlock: Fn<11>;
  gemmBytes: Fn<15>;
  gemmCodes: Fn<14>;
  gemvBrain: Fn<7>;
  gemvCodes4: Fn<15>;
  gemvCodes8: Fn<15>;
  gemvCodesHalves: Fn<10>;
  /** In the relaxed binary only, like bytesInput and dotProbe. */
  gemvDots4: Fn<14>;
  gemvFloat: Fn<7>;
  gemvHalf: Fn<7>;
  gemvPanels: Fn<9>;
  gemvInt4: Fn<13>;
  gemvInt8: Fn<13>;
  gemvTable: Fn<13>;
  inputSums: Fn<5>;
  nibbleOrder: Fn<2>;
  packBytes: Fn<6>;
  packBytesInput: Fn<9>;
  packCodes4: Fn<13>;
  packCodes8: Fn<13>;
  packInput: Fn<9>;
  prepareInt4: Fn<5>;
  prepareInt8: Fn<5>;
  gluGelu: Fn<8>;
  gluSilu: Fn<8>;
  mirror: Fn<4>;
  obsSweep: Fn<17>;
  obsSweepTable: Fn<15>;
  packColumns: Fn<6>;
  packRows: Fn<6>;
  packWideInput: Fn<5>;
  panelSums: Fn<3>;
  inputRanges: Fn<6>;
  outlierColumns: Fn<6>;
  quantizeInput: Fn<6>;
  quantizeInt8: Fn<10>;
  decodeColumns: Fn<12>;
  rmsNorm: Fn<8>;
  rope: Fn<11>;
  scatterAdd: Fn<8>;
  select: Fn<8>;
  softmax: Fn<6>;
  byteTileRows(): number;
  codeTileRows(): number;
  tileRows(): number;
  setThread: Fn<1>;
  workBytes(): number;
  triangularInverseSmall: Fn<5>;
}

/** Bytes of a base64 text, in Node and in browsers. */
export function base64Bytes(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** The binary imports a memory with a maximum; the flags of the import, right behind its name, say whether that is shared. */
function forSharedMemory(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const name = [6, ...new TextEncoder().encode('memory'), 2]; // length, name, kind
  const at = bytes.findIndex((_, i) => name.every((b, j) => bytes[i + j] === b)) + name.length;
  bytes[at] = 3; // shared, has a maximum
  return bytes;
}

/**
 * Compiles the module and binds it to a memory.
 * @throws LmqError `backend/unsupported` where WebAssembly or its SIMD instructions are missing
 */
export async function instantiate(
  base64: string,
  memory: WebAssembly.Memory,
  shared: boolean,
): Promise<{ wasm: WasmExports; module: WebAssembly.Module }> {
  try {
    const bytes = base64Bytes(base64);
    const { module, instance } = await WebAssembly.instantiate(shared ? forSharedMemory(bytes) : bytes, { env: { memory, abort } });
    return { wasm: instance.exports as unknown as WasmExports, module };
  } catch (cause) {
    throw new LmqError('backend/unsupported', 'the WebAssembly kernels cannot run here', {
      op: 'wasmBackend',
      expected: 'WebAssembly with 128-bit SIMD',
      hint: 'Use jsBackend() of @lmq/kernels-js. A page with a content-security policy must allow wasm-unsafe-eval.',
      cause,
    });
  }
}

/** AssemblyScript's import for failed assertions; the kernels have none. */
function abort(): never {
  throw new LmqError('backend/unsupported', 'a kernel aborted', { op: 'wasm' });
}
