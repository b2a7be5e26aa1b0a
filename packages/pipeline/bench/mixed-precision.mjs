// Mixed precision beside uniform precision of the same size on lmq-nano: RTN and GPTQ, by every measure; and what greedy choices lose. Writes the table of
// docs/mixed-precision.md.
//
//     node packages/pipeline/bench/mixed-precision.mjs [most seconds]        after a build; 16 minutes of one processor; goes on where it stopped
//
// Calibrated, measured and solved on the calibration ids only; evaluated on the first 40 windows of 512 tokens of the validation text. A uniform row
// is what a budget is compared with: bits and groups of 128, 64 or 32 columns, which give five sizes. Mixed rows choose bits only, in
// groups of 128, and take no more bytes.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { klDivergence, logSumExp, rowArgmax, windowsOf } from '@lmq/eval';
import { wasmBackend } from '@lmq/kernels-wasm';
import { loadModel } from '@lmq/model';
import { calibration } from '@lmq/nano';
import { allocateBudget, measureBlocks, overlay, parseRecipe, planBudget, quantizeBlocks } from '@lmq/pipeline';
import { openModel, readTokens } from '@lmq/pipeline/node';

const docs = new URL('../../../docs/mixed-precision.md', import.meta.url);
const cache = new URL('../../../docs/mixed-precision.json', import.meta.url);
const json = (path) => JSON.parse(readFileSync(path, 'utf8'));
const done = existsSync(cache) ? json(cache) : {};
const most = Number(process.argv[2] ?? Number.POSITIVE_INFINITY);

/** Bits and group size. */
const UNIFORM = [
  [2, 32],
  [3, 128],
  [3, 64],
  [3, 32],
  [4, 128],
];
const MEASURES = ['output', 'kl', 'weight'];

const windows = json(calibration);
const backend = await wasmBackend();
const opened = await openModel('lmq-nano');
const { ids } = await readTokens(opened.builtIn.validation, opened.tokenizer, opened.architecture.vocab);
const { vocab } = opened.architecture;
const texts = windowsOf(ids, 512, 40);

/** Logits of every window, [tokens, vocab] each, one after the other. */
async function logitsOf(checkpoint, each) {
  const model = await loadModel({ ...opened, checkpoint, backend });
  for (const [i, text] of texts.entries()) {
    const s = backend.scope();
    each((await s.read(await model.forward(s, text))).data, i);
    s.dispose();
  }
  model.dispose();
}

const original = [];
await logitsOf(opened.checkpoint, (p) => original.push(p));
const start = performance.now();

async function keep(key, work) {
  if (done[key] === undefined && (performance.now() - start) / 1000 < most) {
    const before = process.cpuUsage();
    const result = await work();
    const { user, system } = process.cpuUsage(before);
    done[key] = { ...result, seconds: (user + system) / 1e6 };
    writeFileSync(cache, `${JSON.stringify(done)}\n`);
    console.log(key, JSON.stringify({ ...done[key], errors: undefined }));
  }
  return done[key];
}

async function evaluate(recipe) {
  const weights = new Map();
  let bytes = 0;
  let count = 0;
  for await (const b of quantizeBlocks({ ...opened, backend, recipe, calibration: windows })) {
    for (const [name, t] of b.weights) weights.set(name, t);
    for (const l of b.layers) {
      bytes += (l.bitsPerWeight * l.weights) / 8;
      count += l.weights;
    }
  }
  let [nll, kl, same, tokens] = [0, 0, 0, 0];
  await logitsOf(overlay(opened.checkpoint, weights), (q, i) => {
    const p = original[i];
    for (let t = 0; t + 1 < texts[i].length; t++) {
      const at = t * vocab;
      const sum = logSumExp(q, at, vocab);
      nll += sum - q[at + texts[i][t + 1]];
      kl += klDivergence(p, logSumExp(p, at, vocab), q, sum, at, vocab);
      same += rowArgmax(p, at, vocab) === rowArgmax(q, at, vocab);
      tokens++;
    }
  });
  return { bits: (8 * bytes) / count, perplexity: Math.exp(nll / tokens), kl: kl / tokens, top1: same / tokens };
}

/** The errors of all candidates: the same for all budgets and for both methods, which are measured with the same rounding. */
async function errorsOf(measure) {
  const recipe = parseRecipe({ stages: [{ method: 'rtn', groupSize: 128 }], budget: { bits: 4, measure } });
  const table = await keep(`measure ${measure}`, async () => {
    const errors = [];
    for await (const b of measureBlocks({ ...opened, backend, recipe, calibration: windows })) errors.push(...b.linears);
    return { errors };
  });
  return table?.errors;
}

async function spend(budget, method, errors) {
  const recipe = parseRecipe({ stages: [{ method, groupSize: 128 }], budget });
  return allocateBudget(recipe, await planBudget(opened.checkpoint, opened.architecture, recipe), errors);
}

/** A uniform row of each size, and the mixed rows beside it. */
async function rowsOf(method, measures = MEASURES, sizes = UNIFORM) {
  const rows = [];
  for (const [bits, groupSize] of sizes) {
    const key = [method, bits, groupSize];
    const uniform = await keep(JSON.stringify(key), () => evaluate(parseRecipe({ stages: [{ method, bits, groupSize }] })));
    if (!uniform) continue;
    rows.push([method, uniform.bits.toFixed(3), `uniform: ${bits} bits, groups of ${groupSize}`, uniform]);
    for (const measure of measures) {
      const mixed = await keep(JSON.stringify([...key, measure]), async () => {
        const spent = await spend({ bits: uniform.bits, measure }, method, await errorsOf(measure));
        return { map: spent.report.linears.map((l) => l.choice.bits ?? '·').join(''), ...(await evaluate(spent.recipe)) };
      });
      if (mixed) rows.push([method, mixed.bits.toFixed(3), `mixed, by ${measure}`, mixed]);
    }
  }
  return rows;
}

const [two, three, , , four] = UNIFORM;
for (const [method, ...sizes] of [
  ['rtn', three, four],
  ['gptq', three],
  ['rtn', two],
  ['gptq', four],
]) {
  await rowsOf(method, MEASURES.slice(0, 2), sizes); // what matters most comes first
}
const rows = [...(await rowsOf('rtn')), ...(await rowsOf('gptq'))];

const header = ['method', 'bits', 'choice', 'perplexity', 'KL', 'top-1', 'bits of q k v o gate up down, block by block'];
const cells = rows.map(([method, bits, choice, r]) => [
  method,
  bits,
  choice,
  r.perplexity.toFixed(2),
  r.kl.toFixed(4),
  `${(100 * r.top1).toFixed(1)} %`,
  r.map?.replace(/.{7}(?=.)/g, '$& ') ?? '',
]);
const widths = header.map((_, i) => Math.max(3, ...[header, ...cells].map((c) => c[i].length)));
const line = (c) => `| ${c.map((cell, i) => cell.padEnd(widths[i])).join(' | ')} |`;
const table = [header, widths.map((n) => '-'.repeat(n)), ...cells].map(line).join('\n');
/** By how much greedy choices have more error than exact ones. */
const excess = [];
for (const measure of MEASURES) {
  for (const bits of [2.5, 2.75, 3, 3.25, 3.5, 3.75, 4, 4.25, 4.5, 5]) {
    const { errors } = done[`measure ${measure}`];
    const exact = await spend({ bits, measure, solver: 'knapsack' }, 'rtn', errors);
    const greedy = await spend({ bits, measure, solver: 'greedy' }, 'rtn', errors);
    excess.push(greedy.report.error / exact.report.error - 1);
  }
}
const same = excess.filter((e) => e < 1e-9).length;
const solvers = `Of ${excess.length} choices by these measures, for 2.5 to 5 bits, \`greedy\` found ${same} that are the best; the worst had ${(100 * Math.max(...excess)).toFixed(1)} % more error.`;

const [before] = readFileSync(docs, 'utf8').split(/^\| method/m);
writeFileSync(docs, `${before}${table}\n\n${solvers}\n`);
await opened.close();
