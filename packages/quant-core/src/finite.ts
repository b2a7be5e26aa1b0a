/**
 * NaN and infinite weights are named, never quantized.
 * @module
 */
import { LmqError, matrixShape, type Tensor } from '@lmq/tensor';
import { stridesOf } from './_rows.js';

/** @throws LmqError `argument/value` with the count and the first place when `t` holds NaN or infinity */
export function checkFinite(t: Tensor, what: string, op: string): void {
  const [rows, cols] = matrixShape(t, op);
  const [rowStride, colStride] = stridesOf(t);
  const { data } = t;
  let poison = 0;
  for (let r = 0; r < rows; r++) {
    let at = t.offset + r * rowStride;
    for (let c = 0; c < cols; c++, at += colStride) poison += data[at]! * 0; // 0 for a number, NaN for NaN and infinity
  }
  if (poison === 0) return;
  let count = 0;
  let first = '';
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      const v = data[t.offset + r * rowStride + c * colStride]!;
      if (Number.isFinite(v)) continue;
      if (count++ === 0) first = `${v} at [${r}, ${c}]`;
    }
  }
  throw new LmqError(
    'argument/value',
    `${what} has ${count} value${count === 1 ? '' : 's'} that ${count === 1 ? 'is' : 'are'} not finite`,
    {
      op,
      found: `first: ${first}`,
      hint: 'Repair the checkpoint, or leave this tensor out.',
    },
  );
}
