// compressed-tensors checkpoints, and damage done to their tensors and to any object of their configurations.
import type { Rng } from '@lmq/tensor';
import type { Hostile } from './_damage.js';
import { goldenLinears } from './_golden-linears.js';
import { copied, damageTensor, pick } from './_mutate-quantized.js';
import type { Stored } from './_quantized.js';

interface Sample {
  tensors: Record<string, Stored>;
  config: Record<string, unknown> & { config_groups: { group_0: { weights: Record<string, unknown> } } };
}

const SAMPLES = goldenLinears<Pick<Sample, 'config'>>('compressed-tensors');
const PARTS = [...new Set(SAMPLES.flatMap(({ tensors }) => Object.keys(tensors)))].concat('bias', 'input_scale', 'k_scale', 'qweight');
const KEYS = [
  ...[
    'quant_method',
    'format',
    'num_bits',
    'type',
    'strategy',
    'symmetric',
    'group_size',
    'block_structure',
    'actorder',
    'weights',
    'targets',
  ],
  ...['ignore', 'config_groups', 'input_activations', 'kv_cache_scheme', 'quantization_status', 'sparsity_config', 'transform_config', 'a'],
];
const VALUES: readonly unknown[] = [
  ...[0, 1, 2, 3, 4, 5, 8, 16, 32, 64, 96, -1, 1.5, Number.NaN, 1e300, 2 ** 31, '4', '', '__proto__', null, undefined, true, false, [], {}],
  ...['pack-quantized', 'int-quantized', 'naive-quantized', 'float-quantized', 'mxfp4-pack-quantized', 'mxfp8-quantized', 'dense'],
  ...['marlin-24', 'mixed-precision', 'frozen', 'tensor', 'channel', 'group', 'block', 'tensor_group', 'token', 'float', 'int', 'weight'],
  ...['16x16', [16, 16], ['Linear'], ['re:(a+)+$'], { W4A16: ['Linear'] }, { format: 'sparse-bitmask' }, { num_bits: 8, dynamic: true }],
];

/** Changes a field of one of the objects that a configuration is made of. */
function damageObject(rng: Rng, config: Record<string, unknown>): void {
  const objects: Record<string, unknown>[] = [config];
  for (const of of objects)
    for (const value of Object.values(of))
      if (typeof value === 'object' && value && !Array.isArray(value)) objects.push(value as Record<string, unknown>);
  const of = pick(rng, objects);
  const own = Object.keys(of);
  const key = pick(rng, own.length && rng.below(2) ? own : KEYS);
  if (rng.below(4) === 0) delete of[key];
  else of[key] = structuredClone(pick(rng, VALUES));
}

/** One or two linears of one format, damaged or not, beside a norm. */
export function hostileCompressedTensors(rng: Rng): Hostile {
  const first = pick(rng, SAMPLES);
  const like = SAMPLES.filter((c) => JSON.stringify(c.config) === JSON.stringify(first.config));
  const tensors = copied(rng.below(2) ? [first] : [first, pick(rng, like)]);
  const config = structuredClone(first.config);
  const how = rng.below(10);
  const times = () => 1 + rng.below(2);
  if (how >= 1 && how <= 6) for (let n = times(); n > 0 && Object.keys(tensors).length; n--) damageTensor(rng, tensors, PARTS);
  if (how >= 5 && how <= 8) for (let n = times(); n > 0; n--) damageObject(rng, config);
  const label = pick(rng, [{ symmetric: true }, { actorder: null }]); // which only data contradicts
  if (how === 9) Object.assign(config.config_groups.group_0.weights, label);
  tensors['norm.weight'] = { dtype: 'F32', shape: [1], data: new Uint8Array(4) };
  return { tensors, config: rng.below(100) === 0 && how > 0 ? pick(rng, VALUES) : config, whole: how === 0 };
}
