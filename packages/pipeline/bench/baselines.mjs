// Our RTN, GPTQ, HQQ and SqueezeLLM on lmq-nano beside the published reference code on the same model, calibration ids and text
// (../shared/golden/nano-baselines.json). Writes docs/baselines.md.
//
//     node packages/pipeline/bench/baselines.mjs [first row] [last row]        after a build; about 20 s a row
//
// Reference arithmetic: float32 scales, and `referenceCompat` for the group scales that the published code takes from weights that have not
// received the updates of their own block yet.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { perplexity } from '@lmq/eval';
import { wasmBackend } from '@lmq/kernels-wasm';
import { loadModel } from '@lmq/model';
import { overlay, parseRecipe, quantizeBlocks } from '@lmq/pipeline';
import { openModel, readTokens } from '@lmq/pipeline/node';

const shared = new URL('../../../../shared/', import.meta.url);
const cache = new URL('../../../docs/baselines.json', import.meta.url);
if (!existsSync(shared)) throw new Error('needs ../shared beside the checkout');
const json = (path) => JSON.parse(readFileSync(path, 'utf8'));

const rows = json(new URL('golden/nano-baselines.json', shared)).rows.filter(({ method, settings: s }) => {
  if (method.startsWith('HQQ')) return s.axis === 1 && s.optimize !== 'slow';
  return method === 'RTN' || method === 'GPTQ' || method === 'SqueezeLLM';
});
const windows = json(new URL('golden/nano-calibration.json', shared));
const [from = 0, to = rows.length] = process.argv.slice(2).map(Number);
const done = existsSync(cache) ? json(cache) : {};

const backend = await wasmBackend();
const opened = await openModel('lmq-nano');
const { ids } = await readTokens(opened.builtIn.validation, opened.tokenizer, opened.architecture.vocab);

/** SqueezeLLM's reference has squared gradients; ours counts by the diagonal of the Hessian instead. */
function stageOf(method, s) {
  const { bits } = s;
  if (method.startsWith('HQQ'))
    return { method: 'hqq', bits, groupSize: s.group_size, iters: s.iters, scaleFormat: 'fp32', referenceCompat: true };
  if (method === 'SqueezeLLM') {
    return { method: 'squeezellm', bits, sparse: s.sparse && { range: s.range, sensitive: s.sensitivity_percent / 100, format: 'fp32' } };
  }
  return {
    method: method.toLowerCase(),
    bits,
    groupSize: s.groupsize,
    symmetric: s.sym,
    clip: s.mse ? 'mse' : 'minmax',
    scaleFormat: 'fp32',
    referenceCompat: true,
    ...(method === 'GPTQ' && {
      actOrder: s.actorder,
      staticGroups: s.static_groups,
      dampPercent: s.percdamp,
      blockSize: s.blocksize,
      trueSequential: s.true_sequential,
    }),
  };
}

for (const { method, settings: s } of rows.slice(from, to)) {
  const key = JSON.stringify([method, s]);
  if (done[key]) continue;
  const stage = stageOf(method, s);
  const start = performance.now();
  const weights = new Map();
  let loss = 0;
  for await (const b of quantizeBlocks({ ...opened, backend, recipe: parseRecipe({ stages: [stage] }), calibration: windows })) {
    for (const [name, t] of b.weights) weights.set(name, t);
    for (const l of b.layers) loss += l.loss ?? 0;
  }
  const seconds = (performance.now() - start) / 1000;
  const model = await loadModel({ ...opened, checkpoint: overlay(opened.checkpoint, weights), backend });
  const { perplexity: ppl } = await perplexity(model, ids, { context: 512, windows: 40 });
  model.dispose();
  done[key] = { ppl, loss, seconds };
  writeFileSync(cache, `${JSON.stringify(done, null, 1)}\n`);
  console.log(key, ppl);
}

const cells = rows.map(({ method, settings: s, ppl, ref_error_sum: error }) => {
  const ours = done[JSON.stringify([method, s])];
  const group = s.groupsize ?? s.group_size ?? -1;
  const options = [
    method === 'SqueezeLLM' ? 'reference: Fisher, lmq: Hessian diagonal' : s.sym ? 'symmetric' : 'asymmetric',
    group < 0 ? 'per row' : `g${group}`,
    s.sparse && 'outliers',
    s.actorder && 'act-order',
    s.static_groups && 'static',
    s.mse && 'mse',
    s.true_sequential && 'true-sequential',
  ];
  const percent = (a, b) => (a === undefined || !b ? '' : `${(100 * (a / b - 1)).toFixed(2)} %`);
  return [
    method,
    s.bits,
    options.filter(Boolean).join(', '),
    ppl.toFixed(3),
    ours?.ppl.toFixed(3) ?? '',
    percent(ours?.ppl, ppl),
    percent(ours?.loss || undefined, error),
    ours?.seconds.toFixed(1) ?? '',
  ];
});
cells.sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? 1 : a[0] > b[0] ? -1 : 0) || (a[2] < b[2] ? -1 : 1));
const header = ['method', 'bits', 'options', 'reference', 'lmq', 'difference', 'loss difference', 'seconds'];
const table = [header, header.map(() => '---'), ...cells].map((c) => `| ${c.join(' | ')} |`).join('\n');
writeFileSync(
  new URL('../../../docs/baselines.md', import.meta.url),
  `# RTN, GPTQ, HQQ and SqueezeLLM beside the reference code

Perplexity of lmq-nano on the first 40 windows of 512 tokens of the validation text, calibrated on 64 windows of 512 tokens of other novels.
Reference: IST-DASLab/gptq, mobiusml/hqq (HQQ-noopt: without its solver) and SqueezeAILab/SqueezeLLM, executed. lmq: \`packages/pipeline/bench/baselines.mjs\`, backend ${backend.variant}, float32 scales and
\`referenceCompat\`, so that both do the same arithmetic in another order. "loss" is what the reference prints as error, summed over all
linears. Seconds are those of one thread on a shared machine, calibration included. At 2 bits a changed rounding in the first block changes all later ones.

${table}
`,
);
await opened.close();
