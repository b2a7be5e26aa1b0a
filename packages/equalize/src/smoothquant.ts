/**
 * SmoothQuant (Xiao et al. 2022, arXiv 2211.10438): what is hard to round in the activations, a few channels with large values, moves to the
 * weights, which have room for it.
 *
 *     s_j = max( max|x_j|^α / max(w_j, 1e-5)^(1 - α), 1e-5 )      w_j = max over the linears and rows of |W_ij|
 *
 * Reference: mit-han-lab/smoothquant, smooth.py. Difference, which `referenceCompat` takes back: channels that were always zero keep scale 1
 * (theirs get 1e-5, so that a value that does come at run time is made 100 000 times as large).
 *
 * The reference smooths what norms feed (q k v, gate and up), at every level: O1 rounds activations per token, O2 per tensor, O3 per tensor
 * with a range found beforehand.
 * @module
 */
import type { Tensor } from '@lmq/tensor';
import { contiguous, LmqError } from '@lmq/tensor';
import { searchAlpha } from './_alpha-search.js';
import { groupWidth, magnitudes } from './_group.js';
import type { Equalized, SmoothGroup, SmoothQuantOpts, SmoothQuantReport } from './api.js';

/**
 * α by model family: what the README of the reference evaluates with, of the family's small members (Llama-2-70B has 0.9, Falcon-40B 0.7).
 * Families that are not here: 0.5, the paper's.
 */
export const SMOOTHQUANT_ALPHA: Readonly<Record<string, number>> = { opt: 0.5, llama: 0.85, mistral: 0.8, mixtral: 0.8, falcon: 0.6 };

const f = Math.fround;
const FLOOR = f(1e-5);

/**
 * Scales of a group of linears that read the same input.
 * @returns scales for `foldScales`: columns of the linears times s, what feeds them divided by s
 * @throws LmqError `argument/option`, `argument/shape`, `argument/value` (NaN or infinity); `signal.reason`
 */
export async function smoothQuant(group: SmoothGroup, opts: SmoothQuantOpts = {}): Promise<Equalized<SmoothQuantReport>> {
  const start = performance.now();
  const { alpha = 0.5, referenceCompat = false } = opts;
  const { linears, stats } = group;
  const at = smoothScales(linears, stats.absMax, referenceCompat);
  const found = alpha === 'search' ? await searchAlpha(group, at, opts) : { alpha };
  return {
    scales: at(found.alpha),
    report: { method: 'smoothquant', ...found, seconds: (performance.now() - start) / 1000 },
  };
}

/** Looks at the linears once; the function it returns has the scales for any α. */
function smoothScales(linears: readonly Tensor[], absMax: ArrayLike<number>, referenceCompat: boolean): (alpha: number) => Float32Array {
  const op = 'smoothQuant';
  const width = groupWidth(linears, absMax, op);
  const x = magnitudes(absMax, 'absMax', op);
  const w = new Float32Array(width).fill(FLOOR);
  for (const linear of linears) {
    const data = contiguous(linear);
    for (let i = 0; i < data.length; i++) w[i % width] = Math.max(w[i % width]!, Math.abs(data[i]!));
  }
  return (alpha) => {
    if (!(alpha >= 0 && alpha <= 1)) {
      throw new LmqError('argument/option', 'alpha is out of range', { op, expected: '0 <= alpha <= 1', found: alpha });
    }
    return x.map((v, c) => (v === 0 && !referenceCompat ? 1 : Math.max(f(f(v ** alpha) / f(w[c]! ** (1 - alpha))), FLOOR)));
  };
}
