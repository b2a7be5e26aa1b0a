// GPTQ and AWQ checkpoints, and damage done to their tensors and configurations.
import type { Rng } from '@lmq/tensor';
import type { Hostile } from './_damage.js';
import { configOf, goldenCases, type Stored, under } from './_quantized.js';

export const pick = <T>(rng: Rng, list: readonly T[]): T => list[rng.below(list.length)]!;

const BYTES: Record<string, number> = {
  I32: 4,
  U32: 4,
  F32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U8: 1,
  I8: 1,
  I64: 8,
  F64: 8,
  BOOL: 1,
  F8_E4M3: 1,
};
const PARTS = ['qweight', 'qzeros', 'scales', 'g_idx', 'bias', 'weight', 'perm'];
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
];
const KEYS = [
  ...['bits', 'group_size', 'sym', 'desc_act', 'checkpoint_format', 'format', 'quant_method', 'method', 'pack_dtype', 'dynamic'],
  ...['is_marlin_format', 'version', 'zero_point', 'w_bit', 'q_group_size', 'lm_head', 'meta'],
];

function resize(t: Stored, shape: number[]): void {
  const data = new Uint8Array(shape.reduce((n, d) => n * d, 1) * BYTES[t.dtype]!);
  for (let i = 0; i < data.length && t.data.length; i++) data[i] = t.data[i % t.data.length]!;
  t.shape = shape;
  t.data = data;
}

export function damageTensor(rng: Rng, tensors: Record<string, Stored>, parts: readonly string[] = PARTS): void {
  const names = Object.keys(tensors);
  const name = pick(rng, names);
  const t = tensors[name]!;
  switch (rng.below(12)) {
    case 0:
      delete tensors[name];
      break;
    case 1:
      tensors[`${pick(rng, ['a', 'b', 'c.d'])}.${pick(rng, parts)}`] = { ...t, shape: [...t.shape] };
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

/** The tensors of linears, under `a` and `b`, to be damaged. */
export function copied(linears: readonly { tensors: Record<string, Stored> }[]): Record<string, Stored> {
  const copy = (t: Stored): Stored => ({ ...t, shape: [...t.shape], data: t.data.slice() });
  const named = linears.map(({ tensors }, i) =>
    under('ab'[i]!, Object.fromEntries(Object.entries(tensors).map(([part, t]) => [part, copy(t)]))),
  );
  return Object.assign({}, ...named);
}

export function damageConfig(rng: Rng, config: Record<string, unknown>, keys: readonly string[] = KEYS): void {
  const key = pick(rng, keys);
  if (rng.below(4) === 0) delete config[key];
  else config[key] = pick(rng, VALUES);
}

/** One or two linears of one format, damaged or not. */
export function hostileQuantized(rng: Rng): Hostile {
  const first = pick(rng, goldenCases);
  const like = goldenCases.filter((c) => JSON.stringify(configOf(c)) === JSON.stringify(configOf(first)));
  const cases = rng.below(2) ? [first] : [first, pick(rng, like)];
  const tensors = copied(cases);
  const config = configOf(first);
  const how = rng.below(10);
  if (how >= 1 && how <= 6) for (let n = 1 + rng.below(2); n > 0 && Object.keys(tensors).length; n--) damageTensor(rng, tensors);
  if (how >= 5 && how <= 8) for (let n = 1 + rng.below(2); n > 0; n--) damageConfig(rng, config);
  return { tensors, config: how === 9 && rng.below(8) === 0 ? pick(rng, VALUES) : config, whole: how === 0 };
}
