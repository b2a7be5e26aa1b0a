/**
 * The 8-bit grid of a linear's input (`InputQuant` of `@lmq/tensor`): from a range of activations to scale and zero point. Single float32
 * operations, so that every backend takes the same codes.
 *
 * Sources: symmetric, mit-han-lab/smoothquant fake_quant.py (absmax / 127); asymmetric, ONNX DynamicQuantizeLinear, moved from 0 … 255 to
 * -128 … 127. A range of nothing but zeros has scale 0, and all its codes are the zero point.
 * @module
 */
import { rint } from './rounding.js';

const f = Math.fround;

/** x = (code - zeroPoint) * scale. */
export interface InputGrid {
  scale: number;
  /** -128 … 127; 0 when symmetric. */
  zeroPoint: number;
}

/** The grid of values in min … max; the range is widened to hold 0. */
export function inputGrid(min: number, max: number, symmetric: boolean): InputGrid {
  const low = Math.min(min, 0);
  const high = Math.max(max, 0);
  if (symmetric) return { scale: f(Math.max(-low, high) / 127), zeroPoint: 0 };
  const scale = f(f(high - low) / 255);
  if (!(scale > 0)) return { scale, zeroPoint: 0 };
  return { scale, zeroPoint: Math.min(Math.max(rint(f(-low / scale)), 0), 255) - 128 };
}

/** Codes of a grid, less the zero point: the integers that are multiplied. */
export function inputLimits({ zeroPoint }: InputGrid, symmetric: boolean): [least: number, largest: number] {
  return symmetric ? [-127, 127] : [-128 - zeroPoint, 127 - zeroPoint];
}
