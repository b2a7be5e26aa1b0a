// What AWQ takes on one transformer block, and which step how much of it: random weights and ids, norms that make some channels large. The
// block has the proportions of a Llama of 2048 channels: 5632 in the MLP, heads of 64, a key and value head for eight of queries.
//
//     node packages/pipeline/bench/awq-block.mjs [hidden] [windows of 512 tokens]        after a build; default 2048, 4
//
// 2048 channels, 2 windows, one thread of wasm-simd128: 142 s of the processor. Of the time on the clock (of a busy machine) down took 33 %, gate
// and up 33 %, clips 17 %, q, k and v 11 %. Before its judge used that the Hessian is symmetric, down took 57 % of 185 s. Gate and up, q, k and v
// grow with the tokens; the other steps do not, so that with the 128 windows of the published code the two searches through half of the block
// are nearly all of it. Giving up on a candidate once its error is above the best so far saves 3 % of that
// (lmq-nano, 12 windows): the errors of most exponents are too close.
import { wasmBackend } from '@lmq/kernels-wasm';
import { parseHfConfig } from '@lmq/model';
import { equalizeBlocks, parseRecipe } from '@lmq/pipeline';
import { createRng } from '@lmq/tensor';

const [hidden = 2048, count = 4] = process.argv.slice(2).map(Number);
const vocab = 256;
const config = {
  model_type: 'llama',
  hidden_size: hidden,
  intermediate_size: 2.75 * hidden,
  num_hidden_layers: 1,
  num_attention_heads: hidden / 64,
  num_key_value_heads: hidden / 512,
  vocab_size: vocab,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 512,
  tie_word_embeddings: true,
  rope_theta: 10000,
};
const rng = createRng(1);
const tensors = new Map();
const data = new Map();
const add = (name, ...shape) => {
  const size = shape.reduce((a, b) => a * b, 1);
  const scale = shape.length > 1 ? 1 / Math.sqrt(shape[1]) : 1;
  const values = Float32Array.from({ length: size }, () => (shape.length > 1 ? scale * rng.normal() : Math.exp(rng.normal())));
  const [rows, cols] = shape.length > 1 ? shape : [1, size];
  data.set(name, { kind: 'dense', shape: [rows, cols], format: 'fp32', data: values });
  tensors.set(name, { name, shape, format: 'fp32', bytes: 4 * size, file: 'random' });
};
add('model.embed_tokens.weight', vocab, hidden);
add('model.norm.weight', hidden);
const at = 'model.layers.0';
for (const norm of ['input_layernorm', 'post_attention_layernorm']) add(`${at}.${norm}.weight`, hidden);
for (const p of ['q', 'o']) add(`${at}.self_attn.${p}_proj.weight`, hidden, hidden);
for (const p of ['k', 'v']) add(`${at}.self_attn.${p}_proj.weight`, hidden / 8, hidden);
for (const p of ['gate', 'up']) add(`${at}.mlp.${p}_proj.weight`, config.intermediate_size, hidden);
add(`${at}.mlp.down_proj.weight`, hidden, config.intermediate_size);

const checkpoint = { format: 'safetensors', metadata: new Map(), tensors, read: async (name) => data.get(name), close: async () => {} };
const architecture = parseHfConfig(config, (name) => tensors.has(name));
const recipe = parseRecipe({ stages: [{ method: 'awq' }, { method: 'rtn', bits: 4, groupSize: 128, preset: 'awq' }] });
const calibration = Array.from({ length: count }, () => Array.from({ length: 512 }, () => Math.floor(rng.uniform() * vocab)));
const backend = await wasmBackend();

const cpu = process.cpuUsage();
const start = performance.now();
for await (const { report } of equalizeBlocks({ checkpoint, architecture, backend, recipe, stage: recipe.equalize[0], calibration })) {
  const wall = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const used = (user + system) / 1e6;
  const clips = report.clips.reduce((n, c) => n + c.seconds, 0);
  const pairs = report.pairs.map((p) => [`scales of ${p.to.map((n) => n.split('.').at(-1)).join(', ')}`, p.seconds]);
  const rest = wall - clips - pairs.reduce((n, [, s]) => n + s, 0);
  console.log(
    `${hidden} wide, ${512 * count} tokens: ${wall.toFixed(1)} s on the clock, ${used.toFixed(1)} s of the processor, ${backend.variant}`,
  );
  for (const [step, seconds] of [...pairs, ['clips', clips], ['look at the inputs, fold', rest]]) {
    console.log(`${((100 * seconds) / wall).toFixed(1).padStart(5)} %  ${seconds.toFixed(2).padStart(7)} s  ${step}`);
  }
}
