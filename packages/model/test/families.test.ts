import { jsBackend } from '@lmq/kernels-js';
import { describe, expect, it } from 'vitest';
import { loadModel, type Model, parseHfConfig } from '../src/index.js';
import { CASES, type FamilyCase, familyCheckpoint, readCase } from './_families.js';
import { BACKENDS, maxDifference } from './_support.js';

// The golden logits (up to 19 in size) are transformers' own, in float64 but for norms, softmax and rotation angles, which it computes in
// float32. lmq rounds every operation to float32 and lands within 1.4e-5: room for another order of summation, none for a wrong formula
// (the last test below).
const TOLERANCE = 1e-4;

const describeModel = (golden: FamilyCase, config = golden.config) => parseHfConfig(config, (name) => Object.hasOwn(golden.tensors, name));

async function withModel<T>(golden: FamilyCase, make: (typeof BACKENDS)[string], use: (model: Model) => Promise<T>): Promise<T> {
  const model = await loadModel({
    checkpoint: familyCheckpoint(golden),
    architecture: describeModel(golden),
    backend: await make(),
  });
  try {
    return await use(model);
  } finally {
    model.dispose();
  }
}

async function logitsOf(model: Model, ids: readonly number[], cache?: ReturnType<Model['createCache']>): Promise<Float32Array> {
  const s = model.backend.scope();
  try {
    return (await s.read(await model.forward(s, ids, { cache }))).data;
  } finally {
    s.dispose();
  }
}

for (const [variant, make] of Object.entries(BACKENDS)) {
  it.each(CASES)(`%s on ${variant} computes what transformers computes`, async (name) => {
    const golden = readCase(name);
    expect(golden.logits.length).toBe(24 * 64);
    const logits = await withModel(golden, make, (model) => logitsOf(model, golden.ids));
    expect(maxDifference(logits, golden.logits)).toBeLessThan(TOLERANCE);
  });

  it.each(['mistral', 'qwen2', 'gemma3-linear', 'phi3'])(
    `%s on ${variant}: stepping over a KV cache equals the whole at once`,
    async (name) => {
      const golden = readCase(name);
      await withModel(golden, make, async (model) => {
        const cache = model.createCache(24);
        const rows: number[] = [];
        for (const [from, to] of [[0, 5], [5, 16], ...Array.from({ length: 8 }, (_, i) => [16 + i, 17 + i])] as [number, number][]) {
          rows.push(...(await logitsOf(model, golden.ids.slice(from, to), cache)));
        }
        cache.dispose();
        expect(maxDifference(rows, golden.logits)).toBeLessThan(TOLERANCE);
      });
    },
  );
}

describe('parseHfConfig', () => {
  it.each(CASES)('%s: the spelling of transformers 5 means the same', (name) => {
    const golden = readCase(name);
    expect(describeModel(golden, golden.current)).toEqual(describeModel(golden));
  });

  // What a golden logit would not notice being ignored is no check of it: each of these choices must change the result.
  it.each([
    ['mistral', { sliding_window: null }],
    ['qwen2', { max_window_layers: 3 }],
    ['gemma3', { sliding_window_pattern: 4 }],
    ['gemma3', { query_pre_attn_scalar: 16 }],
    ['gemma3', { rope_local_base_freq: 1e6 }],
    ['gemma3-linear', { rope_scaling: null }],
    ['llama3', { rope_scaling: null }],
    ['llama-yarn', { rope_scaling: { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 64, attention_factor: 1 } }],
    ['phi3-partial', { partial_rotary_factor: 1 }],
    ['gemma3', { hidden_activation: 'silu' }],
  ])('%s depends on %o', async (name, change) => {
    const golden = readCase(name);
    const other = { ...golden, config: { ...golden.config, ...change } };
    const logits = await withModel(other, jsBackend, (model) => logitsOf(model, golden.ids));
    expect(maxDifference(logits, golden.logits)).toBeGreaterThan(100 * TOLERANCE);
  });
});
