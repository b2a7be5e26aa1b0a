// Every architecture that lmq runs, exported to GGUF: llama.cpp computes what our forward pass computes from the Hugging Face folder.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { wasmBackend } from '../../packages/kernels-wasm/dist/index.js';
import { parseRecipe } from '../../packages/pipeline/dist/index.js';
import { convertModel, openModel, quantizeModel } from '../../packages/pipeline/dist/node.js';
import { distance, ours, startLlama, theirs } from '../llama.mjs';
import { LLAMA, writeSynthetic } from '../synthetic.mjs';

const SMALL = { ...LLAMA, hidden_size: 64, intermediate_size: 96, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32 };
const family = (model_type, architecture, more = {}) => ({ ...SMALL, model_type, architectures: [architecture], ...more });
const { head_dim: _, ...BY_HIDDEN } = SMALL;
const IDS = Array.from({ length: 48 }, (_, i) => (i * 131 + 7) % 2048); // longer than the windows

const CASES = {
  llama: SMALL,
  'llama, biases': { ...SMALL, attention_bias: true },
  'llama, llama3 positions': {
    ...SMALL,
    rope_theta: 500,
    rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 },
  },
  'llama, linear positions': { ...SMALL, rope_scaling: { rope_type: 'linear', factor: 4 } },
  'llama, yarn positions': {
    ...SMALL,
    rope_scaling: { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32, attention_factor: 1.25 },
  },
  mistral: family('mistral', 'MistralForCausalLM', { sliding_window: null }),
  mixtral: family('mixtral', 'MixtralForCausalLM', { num_local_experts: 4, num_experts_per_tok: 2 }),
  qwen2: { ...BY_HIDDEN, model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'], tie_word_embeddings: true },
  qwen3: family('qwen3', 'Qwen3ForCausalLM', { tie_word_embeddings: true }),
  // windows of 16 in five layers of six; another factor of the scores than llama.cpp's own
  gemma3: family('gemma3_text', 'Gemma3ForCausalLM', {
    num_hidden_layers: 6,
    sliding_window: 16,
    sliding_window_pattern: 6,
    query_pre_attn_scalar: 24,
    hidden_activation: 'gelu_pytorch_tanh',
    rope_theta: 1e6,
    rope_local_base_freq: 10000,
    tie_word_embeddings: true,
  }),
  phi3: { ...BY_HIDDEN, model_type: 'phi3', architectures: ['Phi3ForCausalLM'], sliding_window: null, pad_token_id: 0 },
  'phi3, part of each head rotated': {
    ...BY_HIDDEN,
    model_type: 'phi3',
    architectures: ['Phi3ForCausalLM'],
    sliding_window: null,
    partial_rotary_factor: 0.5,
    pad_token_id: 0,
  },
};

// The weights are the same float32 numbers; llama.cpp keeps keys and values in half precision (relative steps of 2^-11).
const MEAN = 0.004;
const WORST = 0.04;

let dir;
let llama;
let backend;
before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'lmq-families-'));
  llama = await startLlama();
  backend = await wasmBackend();
});
after(async () => {
  await llama?.dispose();
  rmSync(dir, { recursive: true, force: true });
});

for (const [name, config] of Object.entries(CASES)) {
  test(`llama.cpp runs ${name}`, async (t) => {
    const folder = join(dir, name.replace(/\W+/g, '-'));
    await writeSynthetic(folder, config);
    const model = await openModel(folder);
    const output = `${folder}.gguf`;
    const { notes } = await quantizeModel(model, { backend, recipe: parseRecipe({ export: 'gguf:f32' }), output });
    await model.close();
    for (const n of notes) t.diagnostic(n);
    const [a, b, again] = [await ours(folder, backend, IDS), await theirs(llama, output, IDS), await ours(output, backend, IDS)];
    const d = distance(a, b);
    t.diagnostic(`|Δ log p| mean ${d.mean.toFixed(5)}, worst ${d.worst.toFixed(5)}`);
    assert.ok(d.mean <= MEAN && d.worst <= WORST, `mean ${d.mean} > ${MEAN} or worst ${d.worst} > ${WORST}`);
    const own = distance(a, again);
    assert.ok(own.worst <= 1e-3, `our reader of the file is ${own.worst} away`);
    const file = await openModel(output); // nothing but the file says how the model is built
    await convertModel(file, { export: 'safetensors', output: `${folder}-back` });
    await file.close();
    const back = distance(a, await ours(`${folder}-back`, backend, IDS));
    t.diagnostic(`the folder made of the file: ${back.worst}`);
    assert.ok(back.worst <= 1e-4, `the folder made of the file is ${back.worst} away`);
  });
}
