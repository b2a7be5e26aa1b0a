/**
 * What reader and writer of bitsandbytes checkpoints share: names, tables, the order of codes, and scales of 8-bit rows.
 * @module
 */
import { BITSANDBYTES_FP4, NF4, packBitsandbytes4, packRows, unpackBitsandbytes4, unpackRows } from '@lmq/formats';

/** The tables that bitsandbytes stores weights of; its runtimes have them built in. */
export const BNB_TABLES: ReadonlyMap<string, readonly number[]> = new Map([
  ['nf4', NF4],
  ['fp4', BITSANDBYTES_FP4],
]);

/** The first code whose value is not that of a table, or -1. Versions of bitsandbytes computed their tables, so that last bits may differ. */
export function otherCode(values: Float32Array, table: readonly number[]): number {
  return table.findIndex((x, code) => !(Math.abs(values[code]! - x) <= 1e-6));
}

export const QUANT_STATE = 'weight.quant_state.bitsandbytes__';

/** Block sizes that bitsandbytes has kernels for, rising. */
export const BNB_BLOCKS: readonly number[] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/** Rows of 4-bit codes, lowest half first, from one stream that takes the upper half first and does not start rows on bytes. */
export function rowsOfStream(packed: Uint8Array, rows: number, cols: number): Uint8Array {
  return cols % 2 === 0 ? swapHalves(packed) : packRows(unpackBitsandbytes4(packed, rows * cols), 4, rows, cols);
}

/** The stream of rows: inverse of {@link rowsOfStream}. */
export function streamOfRows(codes: Uint8Array, rows: number, cols: number): Uint8Array {
  return cols % 2 === 0 ? swapHalves(codes) : packBitsandbytes4(unpackRows(codes, 4, rows, cols));
}

function swapHalves(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i < out.length; i++) out[i] = (bytes[i]! << 4) | (bytes[i]! >>> 4);
  return out;
}

/** Codes of our rows from int8, and back: both count from the middle. */
export function shiftMiddle(codes: Uint8Array): Uint8Array {
  const out = new Uint8Array(codes.length);
  for (let i = 0; i < out.length; i++) out[i] = codes[i]! ^ 0x80;
  return out;
}

/** Scales of rows from the largest magnitudes of rows, which have code 127. */
export function scalesOfMaxima(maxima: Float32Array): Float32Array {
  return maxima.map((x) => x / 127);
}

/**
 * The float32 that {@link scalesOfMaxima} makes `scale` of, or `undefined` where there is none. Of several the one with most zeros at its
 * end: maxima are those of 16-bit weights.
 */
export function maximumOfScale(scale: number): number | undefined {
  const bits = new Int32Array(1);
  const as = new Float32Array(bits.buffer);
  as[0] = scale * 127;
  const near = bits[0]!;
  let best: number | undefined;
  let zeros = -1;
  for (const candidate of [near, near - 1, near + 1]) {
    bits[0] = candidate;
    const found = 31 - Math.clz32(candidate & -candidate);
    if (Math.fround(as[0]! / 127) === scale && found > zeros) [best, zeros] = [as[0]!, found];
  }
  return scale === 0 ? 0 : best;
}
