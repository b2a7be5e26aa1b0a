/**
 * Estimates for an opened model.
 * @module
 */
import { basename, resolve } from 'node:path';
import { isBlockType } from '@lmq/formats';
import type { Backend, BlockType } from '@lmq/tensor';
import { estimateMeasuring } from '../_budget/estimate.js';
import { estimateEqualize } from '../_equalize/estimate.js';
import { checkEqualize, equalizedTensors } from '../_equalize/plan.js';
import { estimateFisher } from '../_fisher-estimate.js';
import { folderFormat, isFolderName } from '../_folders/table.js';
import type { Recipe } from '../api.js';
import { type BudgetLinear, candidatesOf, largestChoice, type PlannedCandidate, planBudget } from '../budget.js';
import { affineBytes, type EstimateStep, estimateMemory, estimateSeconds, observedRanges } from '../estimate.js';
import { checkExport } from '../export-rules.js';
import { rangeKey } from '../input-quant.js';
import { checkMeasure } from '../measure-blocks.js';
import { calibrates, isAsymmetric, type PlannedSite, planSites } from '../plan.js';
import { measureRates } from '../rates.js';
import { checkStatistics } from '../statistics.js';
import { measureBlockRates } from './block-rates.js';
import { configOf } from './companions.js';
import { dtypeOf } from './export-folder.js';
import { onnxBytesOf } from './export-onnx.js';
import type { OpenModel } from './open-model.js';
import { ggufBytesOf, type Placed, planGguf } from './plan-gguf.js';
import { checkImportance, type QuantizeModelOpts, sitesToCollect } from './quantize-model.js';

export interface Estimate {
  /** Of all tensors in the output; exact, with a budget at most. */
  outputBytes: number;
  /** Over the quantized linears; exact, with a budget at most. */
  bitsPerWeight: number;
  /** Of the working folder while the work goes on. */
  workBytes: number;
  /** Processor seconds of all threads on this machine. */
  seconds: number;
  /** Resident memory at the peak, at most. */
  peakRss: number;
  steps: EstimateStep[];
}

/** What the process grows by that no array accounts for: compiled code, the garbage collector's young generation, buffers waiting to be freed. */
const RUNTIME_BYTES = { rtn: 42e6, ggml: 62e6, statistics: 70e6, gptq: 78e6, equalize: 86e6, fisher: 90e6, gptaq: 92e6 };

/** A worker thread: its own JavaScript engine. */
const THREAD_BYTES = 10e6;

/** Headroom for arrays that wait for the garbage collector. */
const SLACK = 1.15;

/** Reading weights and looking for NaN, from the page cache; not measured, because estimating reads headers only. */
const LOOK_BYTES_PER_SECOND = 1.2e9;

/** Of all threads of this process. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

export interface EstimateModelOpts extends Pick<QuantizeModelOpts, 'calibration' | 'statistics' | 'fisher' | 'importance'> {
  /** Threads of the run. Default: those of the backend. */
  threads?: number;
}

/**
 * Estimates a run of `quantizeModel`. Reads headers only.
 * @param backend of one thread: on the small matrices that it is measured with, threads would wait for each other most of the time
 * @throws LmqError what `planSites`, `checkExport` and `checkStatistics` throw, so that it also serves as a check of the recipe
 */
export async function estimateModel(
  model: OpenModel,
  asked: Recipe,
  backend: Backend,
  { calibration = [], statistics, fisher, importance, threads = backend.threads }: EstimateModelOpts = {},
): Promise<Estimate> {
  const { checkpoint, architecture: a } = model;
  checkMeasure(asked, statistics);
  const plan = asked.budget && (await planBudget(checkpoint, a, asked));
  const { recipe, spare } = plan ? largestChoice(asked, plan, await storedSize(model, asked)) : { recipe: asked, spare: 0 };
  const planned = planSites(checkpoint, a, recipe);
  await checkExport(recipe, planned);
  checkEqualize(checkpoint, a, recipe, statistics ?? fisher);
  if (statistics) checkStatistics(statistics, planned);
  const collected = sitesToCollect([...planned, ...candidatesOf(plan)], fisher, calibration);
  checkImportance(importance, recipe);
  const solves = planned.some((p) => calibrates(p.stage));
  const asymmetric = planned.some((p) => isAsymmetric(p.stage));
  const lengths = calibration.map((w) => w.length);
  const text = { tokens: lengths.reduce((a, b) => a + b, 0), longest: Math.max(0, ...lengths) };
  const windows = solves && !statistics ? text : null;
  const stored = new Map([...checkpoint.tensors.values()].map((t) => [t.name, t.bytes]));
  const float32 = (name: string) => 4 * checkpoint.tensors.get(name)!.shape.reduce((n, d) => n * d, 1);
  const tensorBytes = new Map(stored);
  const { budget: _, ...plain } = asked;
  const equalized = equalizedTensors(checkpoint, a, plain, planned); // also where a budget might keep all readers of a norm
  for (const name of equalized.float32) tensorBytes.set(name, float32(name));
  const factors = (p: PlannedSite) => (equalized.rescaled.has(p.site.tensor) ? 4 * p.in : 0);
  const quantized = new Map(planned.map((p) => [p.site.tensor, affineBytes(p.out, p.in, p.stage) + factors(p)]));
  let outputBytes = 0;
  let weights = planned.reduce((n, p) => n + p.out * p.in, 0);
  let codeBytes = [...quantized.values()].reduce((n, b) => n + b, 0);
  const workBytes = codeBytes;
  const blocks: Placed[] = []; // made by the method ggml
  if (recipe.export === 'lmq') for (const [name, bytes] of tensorBytes) outputBytes += quantized.get(name) ?? bytes;
  else if (recipe.export === 'onnx') outputBytes = await onnxBytesOf(checkpoint, a, planned);
  else if (isFolderName(recipe.export)) {
    const format = await folderFormat(recipe.export);
    const dtype = dtypeOf(await configOf({ folder: model.folder, files: {} }));
    const packed = new Map(planned.map((p) => [p.site.tensor, format.bytes(p, dtype, planned)]));
    for (const [name, bytes] of tensorBytes) outputBytes += packed.get(name) ?? bytes;
  } else {
    const described = [...checkpoint.tensors].map(
      ([name, info]) => [name, quantized.has(name) ? { ...info, format: 'affine' } : info] as const,
    );
    const view = { ...checkpoint, tensors: new Map(described) };
    const folder = model.folder!;
    const { tensors } = await planGguf(view, { architecture: a, folder, recipe, name: basename(resolve(folder)), importance });
    for (const t of tensors) outputBytes += ggufBytesOf(t);
    if (recipe.stages[0]?.method === 'ggml') blocks.push(...tensors.filter((t) => isBlockType(t.type)));
  }
  outputBytes += spare;
  // exports that decode to float32
  const elements = [...checkpoint.tensors.values()].map((t) => t.shape.reduce((n, d) => n * d, 1));
  const widest = recipe.export === 'onnx' || recipe.export === 'gguf:f32' ? 4 * Math.max(...elements) : 0;
  const before = process.memoryUsage().rss;
  let encoding = 0;
  const measuring = cpuMs();
  const blockRates = await measureBlockRates(new Set(blocks.map((t) => t.type as BlockType)), importance !== undefined, cpuMs);
  for (const t of blocks) {
    const n = t.shape.reduce((x, y) => x * y, 1);
    weights += n;
    codeBytes += ggufBytesOf(t);
    encoding += n / blockRates.get(t.type as BlockType)!;
  }
  const trials = (cpuMs() - measuring) / 1000;
  const costliest = planned.find((p) => isAsymmetric(p.stage)) ?? planned.find((p) => calibrates(p.stage)) ?? planned[0];
  const ranges = new Map([...observedRanges(planned).values()].map(({ range }) => [rangeKey(range), range]));
  const measured = await measureRates(backend, costliest?.stage, ranges, cpuMs);
  const start = { step: 'start, open the model, warm up', seconds: cpuMs() / 1000 - measured.seconds - trials }; // a run spends the same
  const sourceBytes = [...stored.values()].reduce((n, b) => n + b, 0);
  const look = { step: 'look at the weights', seconds: sourceBytes / LOOK_BYTES_PER_SECOND };
  const encode = blocks.length ? [{ step: 'encode blocks', seconds: encoding }] : [];
  const gradients = estimateFisher(a, collected.length ? planned : [], text, measured.rates, tensorBytes);
  const equalize = estimateEqualize(a, recipe, planned, text, measured.rates);
  const measuringPass = plan && estimateMeasuring(a, plan, asked.budget!, statistics ? [] : lengths, measured.rates, stored);
  const grows: Record<keyof typeof RUNTIME_BYTES, boolean> = {
    rtn: true,
    ggml: blocks.length > 0,
    statistics: solves || asked.budget?.measure === 'output',
    gptq: windows !== null || asked.budget?.measure === 'kl',
    equalize: equalize.steps.length > 0,
    fisher: gradients.steps.length > 0,
    gptaq: asymmetric,
  };
  const runtime = Math.max(...Object.entries(RUNTIME_BYTES).map(([what, bytes]) => (grows[what as keyof typeof grows] ? bytes : 0)));
  const steps = [
    start,
    look,
    ...encode,
    ...(measuringPass?.steps ?? []),
    ...equalize.steps,
    ...gradients.steps,
    ...estimateSeconds(a, planned, windows, measured.rates, outputBytes),
  ];
  return {
    outputBytes,
    bitsPerWeight: asked.budget?.bits ?? (weights ? (codeBytes * 8) / weights : 0),
    workBytes:
      workBytes +
      (windows ? (asymmetric ? 4 : 2) * windows.tokens * a.hidden * 4 : 0) +
      equalize.workBytes +
      gradients.workBytes +
      (measuringPass?.workBytes ?? 0),
    seconds: steps.reduce((n, s) => n + s.seconds, 0),
    peakRss: Math.round(
      before +
        (threads - backend.threads) * THREAD_BYTES +
        runtime +
        SLACK *
          Math.max(estimateMemory(a, planned, windows, tensorBytes, widest), equalize.memory, gradients.memory, measuringPass?.memory ?? 0),
    ),
    steps,
  };
}

/** How many bytes an export stores of what a budget chooses for a linear. */
async function storedSize({ folder }: OpenModel, { export: target }: Recipe): Promise<(l: BudgetLinear, c: PlannedCandidate) => number> {
  if (target === 'onnx') return (l, c) => (c.stage ? c.bytes : 4 * l.out * l.in);
  if (!isFolderName(target)) return (_, c) => c.bytes;
  const format = await folderFormat(target);
  const dtype = dtypeOf(await configOf({ folder, files: {} }));
  return (l, { stage, bytes }) => {
    if (!stage) return bytes;
    const p = { ...l, stage };
    return format.bytes(p, dtype, [p]);
  };
}
