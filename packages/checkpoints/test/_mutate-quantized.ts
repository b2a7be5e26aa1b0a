// GPTQ, AWQ and compressed-tensors checkpoints, and damage done to their tensors and configurations.
import type { Rng } from '@lmq/tensor';
import { goldenLinears } from './_golden-linears.js';
import { configOf, goldenCases, type Stored, under } from './_quantized.js';

const pick = <T>(rng: Rng, list: readonly T[]): T => list[rng.below(list.length)]!;

const BYTES: Record<string, number> = {
  I32: 4,
  U32: 4,
  F32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U8: 1,
  I64: 8,
  F64: 8,
  BOOL: 1,
  I8: 1,
  F8_E4M3: 1,
};
const PARTS = [
  ...['qweight', 'qzeros', 'scales', 'g_idx', 'bias', 'weight', 'perm', 'weight_packed', 'weight_scale', 'weight_shape'],
  ...['weight_zero_point', 'weight_g_idx', 'weight_global_scale', 'input_scale', 'k_scale'],
];
const VALUES: readonly unknown[] = [
  ...[0, 1, 2, 3, 4, 5, 8, 16, 32, 40, 64, 96, 128, -1, -2, 1.5, Number.NaN, 1e300, 2 ** 31, 2 ** 53, '4', '', 'gptq', 'gptq_v2', 'awq'],
  ...['GEMM', 'gemv', 'marlin', 'int32', 'int16', '__proto__', null, undefined, true, false, [], [4], {}, { a: {} }, { bits: 4 }],
  ...[
    { '.*': { bits: 8 } },
    { '+:x': { group_size: 16 } },
    { '-:x': 0 },
    { x: { sym: true, desc_act: false } },
    { '(a+)+$': { bits: 3, group_size: 0 } },
  ],
  ...['pack-quantized', 'int-quantized', 'float-quantized', 'mxfp4-pack-quantized', 'marlin-24', 'mixed-precision', 'dense', 'frozen'],
  ...['tensor', 'channel', 'group', 'block', 'tensor_group', 'token', 'float', 'int', 'dynamic', '16x16', ['re:(a+)+$'], [16, 16]],
];
const KEYS = [
  ...['bits', 'group_size', 'sym', 'desc_act', 'checkpoint_format', 'format', 'quant_method', 'method', 'pack_dtype', 'dynamic'],
  ...['is_marlin_format', 'version', 'zero_point', 'w_bit', 'q_group_size', 'lm_head', 'meta'],
  ...['num_bits', 'type', 'strategy', 'symmetric', 'block_structure', 'actorder', 'weights', 'targets', 'ignore', 'config_groups'],
  ...['input_activations', 'kv_cache_scheme', 'quantization_status', 'sparsity_config', 'transform_config'],
];

export interface Hostile {
  tensors: Record<string, Stored>;
  config: unknown;
  /** Undamaged. */
  whole: boolean;
}

interface Case {
  config: Record<string, unknown>;
  tensors: Record<string, Stored>;
}
/** By format, so that each gets its share. */
const CASES: readonly (readonly Case[])[] = [
  goldenCases.map((c) => ({ config: configOf(c), tensors: c.tensors })),
  goldenLinears<Case>('compressed-tensors'),
];

function resize(t: Stored, shape: number[]): void {
  const data = new Uint8Array(shape.reduce((n, d) => n * d, 1) * BYTES[t.dtype]!);
  for (let i = 0; i < data.length && t.data.length; i++) data[i] = t.data[i % t.data.length]!;
  t.shape = shape;
  t.data = data;
}

function damageTensor(rng: Rng, tensors: Record<string, Stored>): void {
  const names = Object.keys(tensors);
  const name = pick(rng, names);
  const t = tensors[name]!;
  switch (rng.below(12)) {
    case 0:
      if (names.length > 1) delete tensors[name]; // an empty file has no name
      break;
    case 1:
      tensors[`${pick(rng, ['a', 'b', 'c.d'])}.${pick(rng, PARTS)}`] = { ...t, shape: [...t.shape] };
      break;
    case 2: {
      const other = pick(rng, names);
      [tensors[name], tensors[other]] = [tensors[other]!, t];
      break;
    }
    case 3:
      t.dtype = pick(rng, Object.keys(BYTES));
      resize(t, t.shape);
      break;
    case 4: {
      // same data, another dtype of that size
      const size = BYTES[t.dtype]!;
      t.dtype = pick(
        rng,
        Object.keys(BYTES).filter((d) => BYTES[d] === size),
      );
      break;
    }
    case 5:
      resize(
        t,
        t.shape.map((d) => (rng.below(2) ? d : Math.max(0, d + pick(rng, [-1, 1, -d, d, 8, -8, 32, -32])))),
      );
      break;
    case 6:
      t.shape = pick(rng, [[...t.shape].reverse(), [t.data.length / BYTES[t.dtype]!], [1, ...t.shape], [...t.shape, 1]]);
      break;
    case 7:
    case 8:
      for (let n = 1 + rng.below(8); n > 0 && t.data.length; n--)
        t.data[rng.below(t.data.length)] = pick(rng, [0, 1, 127, 128, 255, rng.below(256)]);
      break;
    case 9:
      t.data.fill(pick(rng, [0, 0x77, 0x88, 0xff, 0x7f]));
      break;
    default: {
      const index = names.find((n) => n.endsWith('g_idx'));
      const g = index === undefined ? undefined : tensors[index];
      if (g?.dtype !== 'I32' || g.data.length < 8) break;
      const view = new DataView(g.data.buffer);
      const at = () => 4 * rng.below(g.data.length / 4);
      const [a, b] = [at(), at()];
      if (rng.below(2)) {
        const kept = view.getInt32(a, true); // another order, legal
        view.setInt32(a, view.getInt32(b, true), true);
        view.setInt32(b, kept, true);
      } else view.setInt32(a, pick(rng, [0, 1, 2, 3, 4, -1, 2 ** 31 - 1, -(2 ** 31)]), true);
    }
  }
}

/** Damages the configuration, or one of the objects in it. */
function damageConfig(rng: Rng, config: Record<string, unknown>): void {
  const objects = [config];
  for (const of of objects)
    for (const value of Object.values(of))
      if (typeof value === 'object' && value && !Array.isArray(value)) objects.push(value as Case['config']);
  const of = pick(rng, objects);
  const own = Object.keys(of);
  const key = pick(rng, own.length && rng.below(2) ? own : KEYS);
  if (rng.below(4) === 0) delete of[key];
  else of[key] = structuredClone(pick(rng, VALUES));
}

/** One or two linears of one format, damaged or not. */
export function hostileQuantized(rng: Rng): Hostile {
  const of = pick(rng, CASES);
  const first = pick(rng, of);
  const like = of.filter((c) => JSON.stringify(c.config) === JSON.stringify(first.config));
  const cases = rng.below(2) ? [first] : [first, pick(rng, like)];
  const tensors: Record<string, Stored> = {};
  cases.forEach((c, i) => {
    const copies = Object.fromEntries(
      Object.entries(c.tensors).map(([part, t]) => [part, { ...t, shape: [...t.shape], data: t.data.slice() }]),
    );
    Object.assign(tensors, under('ab'[i]!, copies));
  });
  const config = structuredClone(first.config);
  const how = rng.below(10);
  if (how >= 1 && how <= 6) for (let n = 1 + rng.below(2); n > 0 && Object.keys(tensors).length; n--) damageTensor(rng, tensors);
  if (how >= 5 && how <= 8) for (let n = 1 + rng.below(2); n > 0; n--) damageConfig(rng, config);
  return { tensors, config: how === 9 && rng.below(8) === 0 ? pick(rng, VALUES) : config, whole: how === 0 };
}
