/**
 * Weights that dense-and-sparse quantization keeps apart (Kim et al. 2023, SqueezeLLM, arXiv 2306.07629, §4.2; SqueezeAILab/SqueezeLLM,
 * quantization/nuq.py): first those that the loss is most sensitive to, then those far from the middle.
 * @module
 */
import { LmqError } from '@lmq/tensor';

export interface OutlierOpts {
  /** Part of the weights to keep apart, below 0.5; those of `sensitive` are in it. Default 0.0045. */
  share?: number;
  /**
   * Instead of a share of the magnitudes: how many interquartile ranges beyond the quartiles a weight is an outlier, the further side's distance
   * from 0 counting for both. The published code tunes it for each model, 1.5 to 2.
   */
  range?: number;
  /** Part of the weights to keep apart for their sensitivity. Default 0.0005, or `share` where that is less. */
  sensitive?: number;
}

/** @throws LmqError `argument/option` */
export function checkOutliers({ share = 0.0045, range, sensitive = Math.min(0.0005, share) }: OutlierOpts, op: string): void {
  const bad = (name: string, expected: string, found: unknown) => {
    throw new LmqError('argument/option', `${name} is out of range`, { op, expected, found });
  };
  if (!(share >= 0 && share < 0.5)) bad('share', '0 <= share < 0.5', share);
  if (range !== undefined && !(range >= 0 && range < Number.POSITIVE_INFINITY)) bad('range', 'range >= 0', range);
  const most = range === undefined ? share : 0.5;
  if (!(sensitive >= 0 && sensitive <= most)) bad('sensitive', `0 <= sensitive <= ${most}`, sensitive);
}

/**
 * 1 for each weight that is kept apart.
 * @param w [out, in] row-major
 * @param sensitivity one for each weight, or null: all are equally sensitive
 */
export function findOutliers(w: Float32Array, sensitivity: Float32Array | null, opts: OutlierOpts = {}): Uint8Array {
  checkOutliers(opts, 'findOutliers');
  const { share = 0.0045, range, sensitive = Math.min(0.0005, share) } = opts;
  const out = new Uint8Array(w.length);
  let found = 0;
  const take = (values: Float32Array, limit: number, magnitude: boolean) => {
    for (let i = 0; i < w.length; i++) {
      if (out[i] || !((magnitude ? Math.abs(values[i]!) : values[i]!) > limit)) continue;
      out[i] = 1;
      found++;
    }
  };
  if (sensitivity && sensitive > 0) take(sensitivity, largest(sensitivity, Math.floor(sensitive * w.length)), false);
  if (range !== undefined) {
    const sorted = w.filter((_, i) => !out[i]).sort();
    const [q1, q3] = [quantile(sorted, 0.25), quantile(sorted, 0.75)];
    const reach = range * (q3 - q1);
    take(w, Math.max(Math.abs(q1 - reach), Math.abs(q3 + reach)), true);
  } else {
    const rest = w.filter((_, i) => !out[i]).map(Math.abs);
    take(w, largest(rest, Math.floor(share * w.length) - found), true);
  }
  return out;
}

/** The number that `count` others are not below: those strictly above it are at most as many. */
function largest(values: Float32Array, count: number): number {
  if (count <= 0) return Number.POSITIVE_INFINITY;
  const sorted = values.slice().sort();
  return count >= sorted.length ? Number.NEGATIVE_INFINITY : sorted[sorted.length - 1 - count]!;
}

/** Between neighbours, on a straight line (NumPy's default). */
function quantile(sorted: Float32Array, q: number): number {
  const at = q * (sorted.length - 1);
  const below = sorted[Math.floor(at)]!;
  return below + (sorted[Math.ceil(at)]! - below) * (at - Math.floor(at));
}
