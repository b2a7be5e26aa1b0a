/**
 * Reads RoPE from config.json in all its spellings: `rope_parameters` (transformers 5; for Gemma 3 one object per kind of layer), or the
 * older `rope_theta`, `rope_scaling`, `rope_local_base_freq`, `partial_rotary_factor`. Defaults as in transformers' modeling_rope_utils.py.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { createFields, type Fields, LIMITS, ownField, unsupported } from './_fields.js';
import type { HfFamily } from './_hf-families.js';
import type { Architecture, RopeKind, RopeScaling } from './api.js';

const OP = 'parseHfConfig';
const MAX_THETA = 1e12;
const MAX_FACTOR = 1e6;
const FULL = 'full_attention';
const SLIDING = 'sliding_attention';

/** Everything that transformers reads, and `finetuned`, which it ignores. Another field would mean something unknown. */
const KNOWN = new Set([
  ...['rope_type', 'type', 'rope_theta', 'partial_rotary_factor', 'factor', 'original_max_position_embeddings'],
  ...[
    'low_freq_factor',
    'high_freq_factor',
    'attention_factor',
    'beta_fast',
    'beta_slow',
    'mscale',
    'mscale_all_dim',
    'truncate',
    'finetuned',
  ],
]);

export function readRope(f: Fields, family: HfFamily, headDim: number, context: number): Architecture['rope'] {
  if (!family.fused) f.only('partial_rotary_factor', [1]);
  const parameters = objectAt(f, 'rope_parameters');
  const scaling = objectAt(f, 'rope_scaling');
  if (family.localTheta === undefined) {
    const spec = scaling ?? parameters;
    const theta = parameters?.fields.get('rope_theta') ?? f.get('rope_theta');
    const kind = readKind(f, spec, theta, family.theta, family, context);
    return { ...kind, style: 'half', rotary: family.fused ? readRotary(f, spec, headDim) : headDim };
  }
  const flat = parameters?.fields.names.find((key) => key !== FULL && key !== SLIDING);
  if (flat !== undefined) throw unsupported(OP, `rope_parameters.${flat}`, parameters!.fields.get(flat), `${FULL} and ${SLIDING}`);
  const global = nested(parameters, FULL);
  const theta = global?.fields.get('rope_theta') ?? f.get('rope_theta');
  return {
    ...readKind(f, scaling ?? global, theta, family.theta, family, context),
    local: readKind(f, nested(parameters, SLIDING), f.get('rope_local_base_freq'), family.localTheta, family, context),
    style: 'half',
    rotary: headDim,
  };
}

interface Spec {
  name: string;
  fields: Fields;
}

/** The object in a field; absent, null and empty ones are null. */
function objectAt(f: Fields, name: string, prefix = ''): Spec | null {
  const value = f.get(name) ?? null;
  if (value === null) return null;
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new LmqError('model/config', `${prefix}${name} is not an object`, { op: OP, expected: 'an object or null', found: value });
  }
  if (Object.keys(value).length === 0) return null;
  return { name: prefix + name, fields: createFields((key) => ownField(value, key), OP, `${prefix}${name}.`, Object.keys(value)) };
}

function nested(parameters: Spec | null, kind: string): Spec | null {
  return parameters && objectAt(parameters.fields, kind, `${parameters.name}.`);
}

/** Elements of a head that turn, where a family may turn fewer than all. */
function readRotary(f: Fields, spec: Spec | null, headDim: number): number {
  const owner = (spec?.fields.get('partial_rotary_factor') ?? null) === null ? f : spec!.fields;
  const rotary = Math.trunc(headDim * owner.positive('partial_rotary_factor', 1, 1));
  if (rotary >= 2 && rotary % 2 === 0) return rotary;
  throw new LmqError('model/config', 'partial_rotary_factor gives no whole pairs', { op: OP, expected: 'an even number', found: rotary });
}

function readKind(f: Fields, spec: Spec | null, theta: unknown, fallback: number, family: HfFamily, context: number): RopeKind {
  const inner = spec?.fields;
  if (!family.fused) inner?.only('partial_rotary_factor', [1]);
  const unknown = inner?.names.find((key) => !KNOWN.has(key));
  if (unknown !== undefined) throw unsupported(OP, `${spec!.name}.${unknown}`, inner!.get(unknown), 'no such field');
  const base = createFields(() => inner?.get('rope_theta') ?? theta, OP).positive('rope_theta', MAX_THETA, fallback);
  const scaling = spec && readScaling(f, spec, base, context);
  if (family.fused && scaling) throw unsupported(OP, `${spec.name}.rope_type`, scaling.type, 'default, in this family');
  return { theta: base, ...(scaling && { scaling }) };
}

function readScaling(f: Fields, { name, fields }: Spec, theta: number, context: number): RopeScaling | null {
  const type = fields.get('rope_type') ?? fields.get('type') ?? 'default';
  const outer = (f.get('original_max_position_embeddings') ?? null) === null ? fields : f;
  const original = () => outer.integer('original_max_position_embeddings', 1, LIMITS.context, context);
  const factor = () => fields.positive('factor', MAX_FACTOR);
  switch (type) {
    case 'default':
      return null;
    case 'linear':
      return { type: 'linear', factor: factor() };
    case 'llama3': {
      const lowFrequency = fields.positive('low_freq_factor', MAX_FACTOR);
      const highFrequency = fields.positive('high_freq_factor', MAX_FACTOR);
      if (highFrequency <= lowFrequency) throw order(name, 'high_freq_factor', 'low_freq_factor', highFrequency);
      return { type: 'llama3', factor: factor(), lowFrequency, highFrequency, originalContext: original() };
    }
    case 'yarn': {
      const originalContext = original();
      const stretch = fields.positive('factor', MAX_FACTOR, context / originalContext);
      const [betaFast, betaSlow] = [fields.positive('beta_fast', MAX_FACTOR, 32), fields.positive('beta_slow', MAX_FACTOR, 1)];
      if (betaFast < betaSlow) throw order(name, 'beta_fast', 'beta_slow', betaFast);
      if (theta <= 1) throw order(name, 'rope_theta', '1', theta);
      const truncate = fields.flag('truncate', true);
      return { type: 'yarn', factor: stretch, originalContext, betaFast, betaSlow, truncate, magnitude: readMagnitude(fields, stretch) };
    }
    default:
      throw unsupported(OP, `${name}.rope_type`, type, 'default, linear, llama3, yarn');
  }
}

/** YaRN's factor of cos and sin: given, or 0.1 ln(factor) + 1, or a quotient of two such terms with weights of their own. */
function readMagnitude(fields: Fields, factor: number): number {
  if ((fields.get('attention_factor') ?? null) !== null) return fields.positive('attention_factor', MAX_FACTOR);
  const term = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const weight = (key: string) => (fields.get(key) ? fields.positive(key, MAX_FACTOR) : 0);
  const [above, below] = [weight('mscale'), weight('mscale_all_dim')];
  return above && below ? term(above) / term(below) : term(1);
}

function order(name: string, larger: string, smaller: string, found: number): LmqError {
  return new LmqError('model/config', `${name}: ${larger} is too small`, { op: OP, expected: `more than ${smaller}`, found });
}
