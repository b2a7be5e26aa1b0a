/**
 * Inputs rounded to integers, the definition of `activations: 'int16' | 'int8'`: symmetric, scale = absmax / 32767 per token, or absmax / 127
 * per 32 columns (as llama.cpp's Q8_0, but with a float32 scale); code = round half even of the float32 quotient x / scale, within ±32767 or ±127 (only a subnormal scale is so coarse that it needs saying). Here the
 * rounded values are multiplied as floats; integer arithmetic on the codes gives the same up to float order.
 * @module
 */
import { rint } from '@lmq/formats';
import type { Activations, Mat } from '@lmq/tensor';

const INT8_GROUP = 32;
const f = Math.fround;
const clamp = (code: number, largest: number) => Math.min(Math.max(code, -largest), largest);

/** A copy of x with every value rounded. */
export function roundInput(x: Mat<Float32Array>, activations: Exclude<Activations, 'float32'>): Mat<Float32Array> {
  const [group, largest] = activations === 'int16' ? [x.cols, 32767] : [INT8_GROUP, 127];
  const buffer = new Float32Array(x.rows * x.cols);
  for (let r = 0; r < x.rows; r++) {
    const from = x.offset + r * x.stride;
    const to = r * x.cols;
    for (let start = 0; start < x.cols; start += group) {
      const end = Math.min(start + group, x.cols);
      let max = 0;
      for (let c = start; c < end; c++) max = Math.max(max, Math.abs(x.buffer[from + c]!));
      const scale = f(max / largest);
      if (scale === 0) continue; // all zero, or too small for a float32 scale
      for (let c = start; c < end; c++) buffer[to + c] = clamp(rint(f(x.buffer[from + c]! / scale)), largest) * scale;
    }
  }
  return { buffer, offset: 0, rows: x.rows, cols: x.cols, stride: x.cols };
}
