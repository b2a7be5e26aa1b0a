// Checkpoints of bitsandbytes, HQQ and AutoRound, and damage done to their tensors, the facts beside them, and configurations.
import type { Rng } from '@lmq/tensor';
import { autoRoundConfig } from '../src/auto-round-write.js';
import { bitsandbytesConfig } from '../src/bitsandbytes-write.js';
import { hqqConfig } from '../src/hqq-write.js';
import type { Hostile } from './_damage.js';
import { autoRoundCases, bnbCases, hqqCases } from './_golden-linears.js';
import { copied, damageConfig, damageTensor, pick } from './_mutate-quantized.js';
import type { Stored } from './_quantized.js';

interface Sample {
  tensors: Record<string, Stored>;
  config: Record<string, unknown>;
}

const SAMPLES: readonly (readonly Sample[])[] = [
  bnbCases.map(({ type, double, tensors }) => ({ tensors, config: bitsandbytesConfig({ type, doubleQuant: double }) })),
  hqqCases.map(({ tensors }) => ({ tensors, config: hqqConfig({ bits: 4, groupSize: 64 }) })),
  autoRoundCases.map(({ packing, bits, group, sym, tensors }) => ({
    tensors,
    config: { ...autoRoundConfig({ packing: 'gptq-v1', bits, groupSize: group, sym }), packing_format: packing },
  })),
];
const PARTS = [...new Set(SAMPLES.flat().flatMap(({ tensors }) => Object.keys(tensors)))].concat('bias', 'zero_scale');
const KEYS = [
  ...['quant_method', 'load_in_4bit', 'load_in_8bit', '_load_in_4bit', 'llm_int8_has_fp16_weight', 'packing_format', 'bits', 'group_size'],
  ...['sym', 'data_type', 'act_bits', 'extra_config', 'rotation_config', 'quant_config'],
];
const FIELDS = ['quant_type', 'blocksize', 'dtype', 'shape', 'nested_blocksize', 'nested_dtype', 'nested_offset'];
const NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 33, 48, 64, 4096, -1, 127, 255, 2 ** 31 - 1];

/** The object, if it still is one. */
function jsonOf(data: Uint8Array): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(new TextDecoder().decode(data));
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Changes what a tensor says of the others: a number, or a field of JSON. */
function damageFacts(rng: Rng, tensors: Record<string, Stored>): void {
  const facts = Object.keys(tensors).filter(
    (n) => tensors[n]!.data.length > 0 && (n.includes('quant_state') || tensors[n]!.data.length <= 16),
  );
  if (facts.length === 0) return;
  const t = tensors[pick(rng, facts)]!;
  if (t.dtype === 'I32' || t.dtype === 'F32' || t.dtype === 'I64') {
    const value = pick(rng, NUMBERS);
    const at = rng.below(t.data.length / (t.dtype === 'I64' ? 8 : 4));
    const view = new DataView(t.data.buffer);
    if (t.dtype === 'I64') view.setBigInt64(at * 8, BigInt(value), true);
    else if (t.dtype === 'I32') view.setInt32(at * 4, value, true);
    else view.setFloat32(at * 4, value, true);
    return;
  }
  const json = jsonOf(t.data);
  if (!json) {
    t.data[rng.below(t.data.length)] = rng.below(256);
    return;
  }
  const key = pick(rng, FIELDS);
  const values: unknown[] = [pick(rng, NUMBERS), null, 'nf4', 'fp4', 'float32', [pick(rng, NUMBERS), pick(rng, NUMBERS)], 1e300, {}, 0.25];
  if (rng.below(4) === 0) delete json[key];
  else json[key] = pick(rng, values);
  const text = JSON.stringify(json);
  t.data = new TextEncoder().encode(rng.below(8) ? text : text.slice(0, rng.below(text.length)));
  t.shape = [t.data.length];
}

/** One or two linears of one format, damaged or not. */
export function hostileLinears(rng: Rng): Hostile {
  const family = pick(rng, SAMPLES);
  const first = pick(rng, family);
  const like = family.filter((c) => JSON.stringify(c.config) === JSON.stringify(first.config));
  const samples = rng.below(2) ? [first] : [first, pick(rng, like)];
  const tensors = copied(samples);
  const config = { ...first.config };
  const how = rng.below(12);
  const times = () => 1 + rng.below(2);
  if (how >= 1 && how <= 5) for (let n = times(); n > 0 && Object.keys(tensors).length; n--) damageTensor(rng, tensors, PARTS);
  if (how >= 4 && how <= 8) for (let n = times(); n > 0; n--) damageFacts(rng, tensors);
  if (how >= 8 && how <= 10) for (let n = times(); n > 0; n--) damageConfig(rng, config, KEYS);
  return { tensors, config, whole: how === 0 };
}
