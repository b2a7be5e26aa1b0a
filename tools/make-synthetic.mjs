// Writes a Llama-style Hugging Face folder with random bf16 weights, of any size, to measure speed and memory on. Its text is noise.
//
//     node tools/make-synthetic.mjs <folder> [--layers 16] [--hidden 1024] [--intermediate 2816] [--heads 16] [--kv-heads 16] [--vocab 32000]
//
// Run after a build. Memory holds one tensor. The tokenizer is lmq-nano's, so --vocab must be at least 2048.
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeShards } from '../packages/checkpoints/dist/node.js';
import { encodeFloats } from '../packages/formats/dist/index.js';
import { createRng } from '../packages/tensor/dist/index.js';

const option = (value) => ({ type: 'string', default: String(value) });
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    layers: option(16),
    hidden: option(1024),
    intermediate: option(2816),
    heads: option(16),
    'kv-heads': option(16),
    vocab: option(32000),
    seed: option(1),
  },
});
const [folder] = positionals;
if (!folder) throw new Error('name the folder to write');
const [layers, hidden, intermediate, heads, kvHeads, vocab, seed] = [
  'layers',
  'hidden',
  'intermediate',
  'heads',
  'kv-heads',
  'vocab',
  'seed',
].map((k) => Number(values[k]));
const headDim = hidden / heads;

let made = 0;
function random(name, ...shape) {
  const n = shape.reduce((a, b) => a * b, 1);
  const number = made++;
  return {
    name,
    shape,
    dtype: 'BF16',
    bytes: () => {
      const rng = createRng(seed * 1e6 + number);
      const spread = shape.length === 1 ? 0 : Math.sqrt(3 / shape.at(-1)); // uniform of variance 1 / width keeps activations in range
      const data = encodeFloats(
        'bf16',
        Float32Array.from({ length: n }, () => (shape.length === 1 ? 1 : (2 * rng.u32() * 2 ** -32 - 1) * spread)),
      );
      return new Uint8Array(data.buffer);
    },
  };
}

const tensors = [
  random('model.embed_tokens.weight', vocab, hidden),
  random('lm_head.weight', vocab, hidden),
  random('model.norm.weight', hidden),
];
for (let l = 0; l < layers; l++) {
  const p = `model.layers.${l}.`;
  tensors.push(
    random(`${p}input_layernorm.weight`, hidden),
    random(`${p}post_attention_layernorm.weight`, hidden),
    random(`${p}self_attn.q_proj.weight`, hidden, hidden),
    random(`${p}self_attn.k_proj.weight`, kvHeads * headDim, hidden),
    random(`${p}self_attn.v_proj.weight`, kvHeads * headDim, hidden),
    random(`${p}self_attn.o_proj.weight`, hidden, hidden),
    random(`${p}mlp.gate_proj.weight`, intermediate, hidden),
    random(`${p}mlp.up_proj.weight`, intermediate, hidden),
    random(`${p}mlp.down_proj.weight`, hidden, intermediate),
  );
}
await mkdir(folder, { recursive: true });
const { bytes } = await writeShards(folder, tensors);
const nano = fileURLToPath(new URL('../packages/nano/models/lmq-nano/', import.meta.url));
for (const file of ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'])
  await copyFile(join(nano, file), join(folder, file));
const config = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: hidden,
  intermediate_size: intermediate,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  num_key_value_heads: kvHeads,
  head_dim: headDim,
  vocab_size: vocab,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: 'silu',
  tie_word_embeddings: false,
  bos_token_id: 0,
  eos_token_id: 0,
  dtype: 'bfloat16',
};
await writeFile(join(folder, 'config.json'), JSON.stringify(config, null, 1));
console.log(`${folder}: ${(bytes / 2e6).toFixed(1)} M parameters, ${(bytes / 1e6).toFixed(0)} MB`);
