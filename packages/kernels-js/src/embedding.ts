/**
 * Rows of a compressed weight, decoded. Decoding rounds as the layout says; nothing else is computed.
 * @module
 */
import { decodeRows } from '@lmq/formats';
import type { Linear, Mat } from '@lmq/tensor';

/** out[i] ← decode(weight)[ids[i]]. */
export function embedding(out: Mat<Float32Array>, { weight }: Linear, ids: Int32Array): void {
  for (let i = 0; i < ids.length; i++) {
    const to = out.offset + i * out.stride;
    decodeRows(weight, ids[i]!, ids[i]! + 1, out.buffer.subarray(to, to + out.cols));
  }
}
