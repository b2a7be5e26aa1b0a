/**
 * Rotary positions as `config.json` says them, in the spelling that old and new versions of transformers read. Reads back: `_hf-rope.ts`.
 * @module
 */
import { HF_FAMILIES } from './_hf-families.js';
import { shortest } from './_shortest.js';
import type { Architecture, RopeScaling } from './api.js';
import { ropeFrequencies } from './rope-frequencies.js';

/** What every Llama from 3.1 to 3.3 has: pairs that turn fewer times within the first context are stretched, those that turn more are kept. */
const LOW = 1;
const HIGH = 4;
const FIRST_CONTEXT = 8192;

export function hfRope(a: Architecture, refuse: (what: string, found: unknown) => never): Record<string, unknown> {
  const { theta, scaling, local, rotary } = a.rope;
  const family = HF_FAMILIES.get(a.family)!;
  if (rotary !== a.headDim && !family.fused) refuse('config.json turns whole heads in this family', `${rotary} of ${a.headDim}`);
  if (scaling && family.fused) refuse('config.json cannot say how positions are scaled in this family', scaling.type);
  if (local?.scaling) refuse('config.json cannot say how positions within windows are scaled', local.scaling.type);
  if (local && family.localTheta === undefined) refuse('config.json has one base of positions in this family', local.theta);
  const spec = scaling?.type === 'factors' ? llama3Of(a, scaling.factors) : scaling;
  if (spec === null) refuse('config.json cannot say how positions are scaled', 'RoPE factors that are not those of Llama 3');
  return {
    rope_theta: shortest(theta),
    ...(local && { rope_local_base_freq: shortest(local.theta) }),
    ...(spec && { rope_scaling: scalingFields(spec as Exclude<RopeScaling, { type: 'factors' }>) }),
    ...(rotary !== a.headDim && { partial_rotary_factor: rotary / a.headDim }),
  };
}

function scalingFields(scaling: Exclude<RopeScaling, { type: 'factors' }>): Record<string, unknown> {
  const fields = { rope_type: scaling.type, factor: shortest(scaling.factor) };
  switch (scaling.type) {
    case 'linear':
      return fields;
    case 'llama3':
      return {
        ...fields,
        low_freq_factor: scaling.lowFrequency,
        high_freq_factor: scaling.highFrequency,
        original_max_position_embeddings: scaling.originalContext,
      };
    case 'yarn':
      return {
        ...fields,
        original_max_position_embeddings: scaling.originalContext,
        beta_fast: shortest(scaling.betaFast),
        beta_slow: shortest(scaling.betaSlow),
        attention_factor: scaling.magnitude,
        truncate: scaling.truncate,
      };
  }
}

/**
 * Llama 3's scaling with these factors, of which GGUF stores nothing else, or null when they are none of it, as float32 numbers. Between the
 * stretched pairs and the kept, a factor says how far its pair is from both, and so how long the first context was.
 */
function llama3Of({ rope: { theta, rotary } }: Architecture, factors: readonly number[]): RopeScaling | null {
  const plain = ropeFrequencies({ theta }, rotary).frequencies;
  const factor = Math.max(...factors);
  const keep = factors.map((x) => (1 / x - 1 / factor) / (1 - 1 / factor));
  const middle = keep.reduce((best, k, i) => (Math.abs(k - 0.5) < Math.abs(keep[best]! - 0.5) ? i : best), 0);
  const within = keep[middle]! > 0 && keep[middle]! < 1;
  const turns = LOW + keep[middle]! * (HIGH - LOW);
  const originalContext = within ? Math.round((turns * 2 * Math.PI) / plain[middle]!) : FIRST_CONTEXT;
  const scaling: RopeScaling = { type: 'llama3', factor, lowFrequency: LOW, highFrequency: HIGH, originalContext };
  const scaled = ropeFrequencies({ theta, scaling }, rotary).frequencies;
  return factors.every((x, i) => Math.abs(plain[i]! / scaled[i]! / x - 1) < 2 ** -22) ? scaling : null;
}
