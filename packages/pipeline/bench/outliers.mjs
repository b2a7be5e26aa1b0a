// Outliers as real models have them, end to end: those of OPT planted in lmq-nano (_planted.mjs), and what each method makes of it. All through
// `quantizeModel`, from a float32 folder to a folder that is opened again. Writes docs/outliers.md and docs/outliers.svg.
//
//     node packages/pipeline/bench/outliers.mjs [planting …]        after a build; names of plantings, default all; about 5 minutes of one processor each
//
// Calibrated on the first 16 windows of 512 tokens of the calibration text, evaluated on the first 40 of the validation text.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { perplexity } from '@lmq/eval';
import { wasmBackend } from '@lmq/kernels-wasm';
import { loadModel } from '@lmq/model';
import { overlay, parseRecipe } from '@lmq/pipeline';
import { openModel, quantizeModel, readTokens } from '@lmq/pipeline/node';
import { createChannelObserver } from '@lmq/quant-core';
import { layerErrors, spikiest } from '../../equalize/test/_opt-layer.mjs';
import { readOptMaxima } from '../../equalize/test/_opt-maxima.mjs';
import { optFactors, plantOutliers } from './_planted.mjs';

const docs = (name) => new URL(`../../../docs/${name}`, import.meta.url);
const cache = docs('outliers.json');
const measured = () => (existsSync(cache) ? JSON.parse(readFileSync(cache, 'utf8')) : {});
const folder = mkdtempSync(join(tmpdir(), 'lmq-outliers-'));
const backend = await wasmBackend();
const nano = await openModel('lmq-nano');
const { ids } = await readTokens(nano.builtIn.validation, nano.tokenizer, nano.architecture.vocab);
const calibration = JSON.parse(readFileSync(nano.builtIn.calibration, 'utf8')).slice(0, 16);

/** Name, model, exponent of the ratios. With the last the largest outlier is a hundred times the median, as in models of 6.7B and more. */
const PLANTINGS = [['none'], ['OPT-1.3b', 'opt-1.3b', 1], ['OPT-1.3b, exponent 1.5', 'opt-1.3b', 1.5]];

const int8 = (input) => ({ method: 'rtn', bits: 8, symmetric: true, preset: 'smoothquant', scaleFormat: 'fp32', input });
const grid = (bits) => ({ bits, groupSize: 128, preset: 'awq' });
const LEVELS = { O1: 'int8-token', O2: 'int8-tensor', O3: 'int8-static' };
const levels = (name, ...stages) => Object.entries(LEVELS).map(([level, input]) => [`${name}, ${level}`, [...stages, int8(input)]]);
const widths = (name, stagesOf) => [4, 3].map((bits) => [`${name}, ${bits} bits g128`, stagesOf(bits)]);

/** Rows of the table: name and stages. */
const ROWS = [
  ['float', []],
  ['W8, float inputs', [int8(undefined)]],
  ...levels('naive W8A8'),
  ...levels('SmoothQuant 0.5, W8A8', { method: 'smoothquant', alpha: 0.5 }),
  ['LLM.int8()', [int8('llm-int8')]],
  ...widths('RTN', (bits) => [{ method: 'rtn', ...grid(bits) }]),
  ...widths('GPTQ', (bits) => [{ method: 'gptq', ...grid(bits) }]),
  ...widths('AWQ', (bits) => [{ method: 'awq' }, { method: 'rtn', ...grid(bits) }]),
  ['SmoothQuant 0.8, W8A8, O1', [{ method: 'smoothquant', alpha: 0.8 }, int8('int8-token')]],
  ...levels('SmoothQuant search, W8A8', { method: 'smoothquant', alpha: 'search' }),
];

/** A float32 folder of lmq-nano with outliers, opened. */
async function openPlanted([name, model, growth]) {
  const maxima = model && readOptMaxima(model);
  if (model && !maxima) throw new Error('needs ../shared beside the checkout');
  const changed = maxima ? await plantOutliers(nano, optFactors(maxima, nano.architecture, growth)) : new Map();
  const output = join(folder, name);
  const recipe = parseRecipe({ stages: [], export: 'safetensors' });
  await quantizeModel({ ...nano, checkpoint: overlay(nano.checkpoint, changed) }, { backend, recipe, output });
  return openModel(output);
}

async function measure(source, stages) {
  const output = join(folder, 'out');
  const cpu = process.cpuUsage();
  const report = await quantizeModel(source, { backend, recipe: parseRecipe({ stages }), calibration, output });
  const { user, system } = process.cpuUsage(cpu);
  const opened = await openModel(output);
  const model = await loadModel({ ...opened, backend });
  const { perplexity: ppl } = await perplexity(model, ids, { context: 512, windows: 40 });
  const outliers = model.outliers && model.outliers.columns / model.outliers.of;
  model.dispose();
  await opened.close();
  rmSync(output, { recursive: true });
  const chosen = report.equalized?.flatMap((e) => e.pairs.map((p) => p.alpha ?? p.ratio));
  return { ppl, outliers, chosen, cpuSeconds: (user + system) / 1e6 };
}

/** Largest |x| of each channel of what the first attention reads. */
async function maximaOf(source, stages) {
  const output = join(folder, 'smooth');
  await quantizeModel(source, { backend, recipe: parseRecipe({ stages }), calibration, output });
  const opened = await openModel(output);
  const model = await loadModel({ ...opened, backend });
  const observer = createChannelObserver(model.architecture.hidden);
  const { input } = model.architecture.sites.find((s) => s.role === 'q');
  for (const window of calibration) {
    const s = backend.scope();
    const copies = [];
    await model.hidden(s, window, { tap: (site, x) => void (site === input && copies.push(s.copy(x))) });
    for (const x of copies) observer.add(await s.read(x));
    s.dispose();
  }
  model.dispose();
  await opened.close();
  rmSync(output, { recursive: true });
  return Array.from(observer.read().absMax, (v) => Number(v.toPrecision(4)));
}

/** Runs for several plantings may go on side by side. */
function save(name, row, result) {
  const all = measured();
  all[name] = { ...all[name], [row]: result };
  writeFileSync(cache, `${JSON.stringify(all, null, 1)}\n`);
}
const wanted = process.argv.slice(2);
try {
  for (const planting of PLANTINGS) {
    const [name] = planting;
    if (wanted.length && !wanted.includes(name)) continue;
    const source = await openPlanted(planting);
    const done = measured()[name] ?? {};
    for (const [row, stages] of ROWS) {
      if (done[row]) continue;
      const result = await measure(source, stages);
      save(name, row, result);
      console.log(name, '|', row, '|', JSON.stringify(result));
    }
    if (name === 'OPT-1.3b' && !done.maxima) {
      const smooth = [{ method: 'smoothquant', alpha: 0.5 }, int8('int8-token')];
      save(name, 'maxima', { before: await maximaOf(source, []), after: await maximaOf(source, smooth) });
    }
    await source.close();
  }
  for (const model of ['opt-125m', 'opt-1.3b']) {
    if (wanted.length || measured().layer?.[model]) continue;
    const maxima = readOptMaxima(model);
    save('layer', model, await layerErrors(maxima.get(spikiest(maxima)), { out: 256, tokens: 256, backend, awq: true }));
  }
} finally {
  rmSync(folder, { recursive: true });
  await nano.close();
}

const all = measured();

/** Lines of a table in Markdown, the first its head. */
function tableOf(lines) {
  const sizes = lines[0].map((_, i) => Math.max(3, ...lines.map((line) => line[i].length)));
  const [head, ...rest] = lines;
  return [head, sizes.map((n) => '-'.repeat(n)), ...rest]
    .map((line) => `| ${line.map((text, i) => text.padEnd(sizes[i])).join(' | ')} |`)
    .join('\n');
}

const share = (part) => `${(100 * part).toFixed(1)} %`;
const cell = ({ ppl, outliers }) => ppl.toFixed(2) + (outliers === undefined ? '' : ` (${share(outliers)} of columns)`);
const columns = PLANTINGS.map(([name]) => name);
const models = ROWS.map(([row]) => [row, ...columns.map((name) => (all[name]?.[row] ? cell(all[name][row]) : ''))]);
const layers = Object.entries(all.layer ?? {});
const decibels = (error) => (-10 * Math.log10(error)).toFixed(1);
const linears = layers.length ? Object.keys(layers[0][1]).map((row) => [row, ...layers.map(([, errors]) => decibels(errors[row]))]) : [];

const doc = docs('outliers.md');
let text = readFileSync(doc, 'utf8');
for (const [mark, table] of [
  ['linear', tableOf([['', ...layers.map(([model]) => model)], ...linears])],
  ['model', tableOf([['perplexity', ...columns], ...models])],
]) {
  const between = new RegExp(`(<!-- ${mark} -->\\n)[^]*(\\n<!-- end of ${mark} -->)`);
  text = text.replace(between, (_, start, end) => `${start}\n${table}\n${end}`);
}
writeFileSync(doc, text);

/** Bars of the channels, before above after, on one scale. */
function picture({ before, after }) {
  const [bar, height, gap] = [3, 120, 40];
  const largest = Math.max(...before, ...after);
  const panel = (values, title, top) => [
    `<text x="0" y="${top - 8}">${title}: largest ${Math.max(...values).toFixed(1)}, median ${values.toSorted((a, b) => a - b)[values.length >> 1].toFixed(1)}</text>`,
    ...values.map((v, c) => {
      const size = (height * v) / largest;
      return `<rect x="${c * bar}" y="${(top + height - size).toFixed(1)}" width="${bar - 1}" height="${size.toFixed(1)}"/>`;
    }),
  ];
  const parts = [
    ...panel(before, 'Largest |x| of each channel, OPT-1.3b planted', gap),
    ...panel(after, 'After SmoothQuant, 0.5', 2 * gap + height),
  ];
  const box = `0 0 ${before.length * bar} ${2 * (gap + height)}`;
  const title = '<title>Largest magnitude of each channel before and after SmoothQuant</title>';
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${box}" font-family="sans-serif" font-size="14" fill="#467">`;
  return [svg, title, ...parts, '</svg>', ''].join('\n');
}
if (all['OPT-1.3b']?.maxima) writeFileSync(docs('outliers.svg'), picture(all['OPT-1.3b'].maxima));
