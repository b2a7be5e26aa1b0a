/**
 * Statistics of each input channel of a stream of activations: what AWQ (mean |x|), SmoothQuant (max |x|), imatrix (mean x²) and static
 * activation quantization (min, max) ask for.
 *
 * Sums are float64 and run token by token, so any batch split of a stream gives the same bits. Merging adds two sums: exact for min, max
 * and max |x|, and within a few 1e-16 relative for the means.
 * @module
 */
import { LmqError, matrixShape, type Tensor } from '@lmq/tensor';
import { stridesOf } from '../_rows.js';

/** One number per channel each. */
export interface ChannelStats {
  tokens: number;
  min: Float32Array;
  max: Float32Array;
  absMax: Float32Array;
  mean: Float64Array;
  meanAbs: Float64Array;
  /** Mean of x². */
  secondMoment: Float64Array;
}

export interface ChannelObserver {
  readonly width: number;
  readonly tokens: number;
  /** @param x [tokens, width] */
  add(x: Tensor): void;
  merge(other: ChannelObserver): void;
  /** @throws LmqError `calibration/short` before the first token */
  read(): ChannelStats;
}

/** Starts an observer of `width` channels. */
export function createChannelObserver(width: number): ChannelObserver {
  const min = new Float32Array(width).fill(Number.POSITIVE_INFINITY);
  const max = new Float32Array(width).fill(Number.NEGATIVE_INFINITY);
  const sum = new Float64Array(width);
  const sumAbs = new Float64Array(width);
  const sumSquare = new Float64Array(width);
  let tokens = 0;
  const check = (found: number) => {
    if (found !== width) throw new LmqError('argument/shape', 'the width differs', { op: 'channelObserver', expected: width, found });
  };
  return {
    width,
    get tokens() {
      return tokens;
    },
    add(x) {
      const [rows, cols] = matrixShape(x, 'channelObserver');
      check(cols);
      const [rowStride, colStride] = stridesOf(x);
      for (let r = 0; r < rows; r++) {
        let at = x.offset + r * rowStride;
        for (let c = 0; c < cols; c++, at += colStride) {
          const v = x.data[at]!;
          if (v < min[c]!) min[c] = v;
          if (v > max[c]!) max[c] = v;
          sum[c]! += v;
          sumAbs[c]! += Math.abs(v);
          sumSquare[c]! += v * v;
        }
      }
      tokens += rows;
    },
    merge(other) {
      check(other.width);
      if (other.tokens === 0) return;
      const o = other.read();
      for (let c = 0; c < width; c++) {
        min[c] = Math.min(min[c]!, o.min[c]!);
        max[c] = Math.max(max[c]!, o.max[c]!);
        sum[c]! += o.mean[c]! * o.tokens;
        sumAbs[c]! += o.meanAbs[c]! * o.tokens;
        sumSquare[c]! += o.secondMoment[c]! * o.tokens;
      }
      tokens += other.tokens;
    },
    read() {
      if (tokens === 0) throw new LmqError('calibration/short', 'no token was seen', { op: 'channelObserver' });
      const over = (s: Float64Array) => s.map((v) => v / tokens);
      return {
        tokens,
        min: min.slice(),
        max: max.slice(),
        absMax: max.map((v, c) => Math.max(v, -min[c]!)),
        mean: over(sum),
        meanAbs: over(sumAbs),
        secondMoment: over(sumSquare),
      };
    },
  };
}
