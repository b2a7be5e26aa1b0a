/**
 * Which layers of a Hugging Face model attend through a sliding window: `sliding_window` with `layer_types`, or the older `use_sliding_window`
 * and `max_window_layers` (Qwen), `sliding_window_pattern` (Gemma 3), or nothing more (Mistral, Phi-3).
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { type Fields, LIMITS, unsupported } from './_fields.js';
import type { HfFamily } from './_hf-families.js';

const OP = 'parseHfConfig';
const SLIDING = 'sliding_attention';
const FULL = 'full_attention';

/** By layer, the number of last keys that a query sees; null: all. */
export function readWindows(f: Fields, family: HfFamily, layers: number, context: number): (number | null)[] {
  const given = f.get('sliding_window');
  const switchedOff = family.windows === 'upper' && !f.flag('use_sliding_window', false);
  const none = given === null || (given === undefined && family.window === undefined) || switchedOff;
  const window = none ? null : f.integer('sliding_window', 1, LIMITS.context, family.window);
  if (family.windows === 'none') {
    if (window !== null && window < context) {
      throw unsupported(
        OP,
        'sliding_window',
        window,
        `null, or at least max_position_embeddings (${context}), in this family`,
        'Transformers ignores the field here: remove it if the model was trained without windows.',
      );
    }
    return Array(layers).fill(null);
  }
  const sliding = slidingLayers(f, family, layers, window !== null);
  return sliding.map((yes, layer) => {
    if (yes && window === null) throw contradiction(`layer ${layer} has a sliding window of unknown size`, 'sliding_window', 'null');
    return yes ? window : null;
  });
}

function slidingLayers(f: Fields, { windows }: HfFamily, layers: number, any: boolean): boolean[] {
  const all = Array.from({ length: layers }, (_, i) => i);
  const types = f.get('layer_types') ?? null;
  if (types !== null && (!Array.isArray(types) || types.length !== layers)) {
    throw contradiction('layer_types does not fit num_hidden_layers', `a list of ${layers}`, types);
  }
  const named = (types as unknown[] | null)?.map((type) => {
    if (type !== SLIDING && type !== FULL) throw unsupported(OP, 'layer_types', type, `${SLIDING} or ${FULL}`);
    return type === SLIDING;
  });
  switch (windows) {
    case 'upper': {
      if (named) return named;
      const from = any ? f.integer('max_window_layers', 0, LIMITS.layers, 28) : layers;
      return all.map((i) => i >= from);
    }
    case 'pattern': {
      if (named) return named;
      const every = f.integer('sliding_window_pattern', 1, LIMITS.layers, 6);
      return all.map((i) => (i + 1) % every !== 0);
    }
    default:
      // Transformers does not read layer_types in these families: a list that says otherwise belongs to another implementation.
      if (named?.some((yes) => yes !== any)) throw unsupported(OP, 'layer_types', 'layers of several kinds', 'layers of one kind');
      return all.map(() => any);
  }
}

function contradiction(what: string, expected: unknown, found: unknown): LmqError {
  return new LmqError('model/config', what, { op: OP, expected, found });
}
