/**
 * Frequencies of rotary position embedding, radians per position: theta^(-2i / rotary) (Su et al. 2021), and three ways to stretch them over
 * a longer context than the model was first trained on. All in double.
 *
 * - linear: all divided by the factor (Chen et al. 2023, "Extending context window of large language models via positional interpolation").
 * - llama3: long wavelengths divided, short ones kept, a linear blend between (Meta's Llama 3.1 code, `apply_scaling`).
 * - yarn: "NTK-by-parts" (Peng et al. 2023, YaRN, section 3.2): a ramp over the index i between the pairs that turn `betaFast` and `betaSlow`
 *   times within the first context; and a factor on cos and sin that stands for the temperature of the softmax (section 3.4).
 * @module
 */
import { LmqError } from '@lmq/tensor';
import type { RopeKind, RopeScaling } from './api.js';

/** Frequencies of the pairs 0 … rotary / 2 - 1, and the factor of cos and sin. */
export interface RopeFrequencies {
  frequencies: Float64Array;
  /** 1 unless YaRN says otherwise. */
  magnitude: number;
}

/**
 * @param rotary elements of a head that turn; even
 * @throws LmqError `model/config` when the numbers give no usable frequencies
 */
export function ropeFrequencies({ theta, scaling }: RopeKind, rotary: number): RopeFrequencies {
  const plain = Float64Array.from({ length: rotary / 2 }, (_, i) => theta ** ((-2 * i) / rotary));
  const frequencies = scaling ? plain.map(scalers(scaling, theta, rotary)) : plain;
  const bad = frequencies.find((f) => !(f > 0 && f < Infinity));
  if (bad !== undefined) {
    throw new LmqError('model/config', 'the RoPE parameters give unusable frequencies', {
      op: 'ropeFrequencies',
      expected: 'positive numbers',
      found: bad,
    });
  }
  return { frequencies, magnitude: scaling?.type === 'yarn' ? scaling.magnitude : 1 };
}

/** How the i-th frequency changes. */
function scalers(scaling: RopeScaling, theta: number, rotary: number): (f: number, i: number) => number {
  switch (scaling.type) {
    case 'factors':
      return (f, i) => f / scaling.factors[i]!;
    case 'linear':
      return (f) => f / scaling.factor;
    case 'llama3': {
      const { factor, lowFrequency, highFrequency, originalContext } = scaling;
      return (f) => {
        const turns = (originalContext * f) / (2 * Math.PI); // within the first context
        if (turns > highFrequency) return f;
        if (turns < lowFrequency) return f / factor;
        const keep = (turns - lowFrequency) / (highFrequency - lowFrequency);
        return (1 - keep) * (f / factor) + keep * f;
      };
    }
    case 'yarn': {
      const { factor, betaFast, betaSlow, originalContext, truncate } = scaling;
      /** The index, a real number, of the pair that turns so many times within the first context. */
      const indexOf = (turns: number) => (rotary * Math.log(originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
      const [first, last] = [indexOf(betaFast), indexOf(betaSlow)];
      const low = Math.max(truncate ? Math.floor(first) : first, 0);
      const high = Math.min(truncate ? Math.ceil(last) : last, rotary - 1);
      const width = high === low ? 0.001 : high - low; // a step is a steep ramp
      return (f, i) => {
        const stretch = Math.min(1, Math.max(0, (i - low) / width));
        return stretch * (f / factor) + (1 - stretch) * f;
      };
    }
  }
}
