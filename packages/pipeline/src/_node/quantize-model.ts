/**
 * Quantizes a model into a file or folder. Each finished block goes to a working folder beside the output, so that memory holds one
 * block and an interrupted run goes on where it stopped; the output is then assembled from those parts and the untouched tensors of the
 * source, and appears under its name only whole.
 * @module
 */
import { basename, resolve } from 'node:path';
import { type Checkpoint, lmqManifest, openLmq, toLmqTensors } from '@lmq/checkpoints';
import type { PlaceOpts } from '@lmq/checkpoints/node';
import type { Architecture, Site } from '@lmq/model';
import { type Backend, LmqError, type LongCallOpts } from '@lmq/tensor';
import { checkEqualize } from '../_equalize/plan.js';
import { isFolderName } from '../_folders/table.js';
import { usesFisher } from '../_own-grids.js';
import type { BudgetReport, EqualizeReport, LayerReport, Recipe } from '../api.js';
import { allocateBudget, candidatesOf, type LinearErrors, planBudget } from '../budget.js';
import { equalizeBlocks } from '../equalize-blocks.js';
import { checkExport, outputKind } from '../export-rules.js';
import { checkFisher, type Fisher, fisherIn, fisherTensors, type SavedFisher } from '../fisher.js';
import { fisherBlocks } from '../fisher-blocks.js';
import type { Importance } from '../importance.js';
import { checkMeasure, measureBlocks } from '../measure-blocks.js';
import { stack } from '../overlay.js';
import { type PlannedSite, planSites } from '../plan.js';
import { type BlockResult, quantizeBlocks } from '../quantize-blocks.js';
import { checkStatistics, type Statistics } from '../statistics.js';
import { linearsOf } from './as-hf-model.js';
import { checkOutput } from './check-output.js';
import { exportFolder } from './export-folder.js';
import { type ExportedGguf, exportGguf } from './export-gguf.js';
import { exportLmq } from './export-lmq.js';
import { exportOnnx } from './export-onnx.js';
import { type Fingerprint, fileState, fingerprintOf, policyPrint, windowsDigest } from './fingerprint.js';
import { guardWeights, type NonFiniteOpts } from './guard-weights.js';
import type { OpenModel } from './open-model.js';
import { planGguf } from './plan-gguf.js';
import { passOf, type WorkFolder, type WorkPass, withWorkFolder } from './work-folder.js';

/** With `nonFinite: 'warn'` the linears to quantize must still be finite. */
export interface QuantizeModelOpts extends LongCallOpts, NonFiniteOpts {
  backend: Backend;
  recipe: Recipe;
  /** File (GGUF) or folder (all else) to write. */
  output: string;
  /** Token windows to calibrate on. */
  calibration?: ArrayLike<number>[];
  /** Saved statistics of this model, to use instead; see `openStatisticsFile`. */
  statistics?: Statistics;
  /** Saved Fisher information of this model, instead of collecting it from the calibration windows; see `openFisherFile`. */
  fisher?: SavedFisher;
  /** For the method ggml: what an error in each column costs. Default: as if all columns mattered alike. */
  importance?: Importance;
  /** GGUF: tensor bytes in one file; more are written in parts, as llama.cpp's gguf-split does. Default: everything in one. */
  maxShardBytes?: number;
  /** Replace an existing output. Default false. */
  force?: boolean;
  /** Throw away what an interrupted run has left, instead of going on from it. Default false. */
  restart?: boolean;
}

export interface QuantizeModelReport {
  /** What to open: the file, the folder, or the first part of several. */
  output: string;
  /** Method of the stage, `none` for a copy. */
  method: string;
  variant: string;
  /** Over all quantized linears, everything they need counted. */
  bitsPerWeight: number;
  /** Size of the written tensors. */
  bytes: number;
  /** Of this run. */
  seconds: number;
  /** Blocks taken over from an interrupted run. */
  resumedBlocks: number;
  layers: LayerReport[];
  /** Of each block and stage that equalizes. */
  equalized?: EqualizeReport[];
  /** How the recipe's budget was spent. */
  budget?: BudgetReport;
  /** What the export changed, if anything. */
  notes: string[];
}

/** What the working folder says of a block: its manifest as an lmq folder, empty where it holds no weights, and its reports. */
interface BlockFacts {
  manifest: string;
  layers: LayerReport[];
  equalized?: EqualizeReport;
  measured?: LinearErrors[];
}

/**
 * Runs a recipe from one model to one output.
 * @throws LmqError before any work: `file/exists` when the output is there and `force` is not set; `argument/value` for NaN or infinite
 * weights, unless `nonFinite` says otherwise; then what `quantizeBlocks` throws
 */
export async function quantizeModel(model: OpenModel, opts: QuantizeModelOpts): Promise<QuantizeModelReport> {
  const start = Date.now();
  const { recipe, backend, statistics, fisher, restart, nonFinite } = opts;
  const { architecture, folder } = model;
  if (!folder) {
    throw new LmqError('model/unsupported', 'a GGUF file cannot be quantized again', {
      op: 'quantize',
      found: model.name,
      hint: 'Start from the original Hugging Face folder.',
    });
  }
  const output = await checkOutput(opts.output, outputKind(recipe.export), opts.force ?? false, 'quantize');
  const planned = planSites(model.checkpoint, architecture, recipe); // refuses what cannot be done before anything is written
  await checkExport(recipe, planned);
  checkEqualize(model.checkpoint, architecture, recipe, statistics ?? fisher);
  checkMeasure(recipe, statistics);
  const plan = recipe.budget && (await planBudget(model.checkpoint, architecture, recipe));
  if (statistics) checkStatistics(statistics, planned);
  const collected = sitesToCollect([...planned, ...candidatesOf(plan)], fisher, opts.calibration);
  checkImportance(opts.importance, recipe);
  if (opts.maxShardBytes !== undefined && outputKind(recipe.export) === 'folder') {
    throw new LmqError('argument/option', 'the size of parts is for GGUF files', {
      op: 'quantize',
      found: recipe.export,
      hint: 'Leave it out.',
    });
  }
  const source = { folder, architecture, name: basename(resolve(folder)) };
  if (outputKind(recipe.export) === 'file') await planGguf(model.checkpoint, { ...opts, ...source }); // refuses what llama.cpp would not run
  const checkpoint = await guardWeights(model.checkpoint, opts);
  const calibration = opts.calibration ?? [];
  const fingerprint: Fingerprint = {
    ...(await fingerprintOf(model, backend.variant)),
    recipe: JSON.stringify({
      equalize: recipe.equalize,
      stages: recipe.stages,
      include: recipe.include,
      overrides: recipe.overrides,
      budget: recipe.budget,
    }),
    ...(statistics
      ? { statistics: JSON.stringify([statistics.origin, await fileState(statistics.file)]) }
      : { 'calibration text': windowsDigest(calibration) }),
    ...(fisher && { fisher: JSON.stringify([fisher.origin, await fileState(fisher.file)]) }),
    ...policyPrint(nonFinite),
  };
  /** The errors of all candidates of the budget, which a pass of its own measures. */
  const measure = async (pass: WorkPass<BlockFacts>, sizes: readonly number[]): Promise<LinearErrors[]> => {
    const resume = await pass.resume(sizes);
    for await (const { layer, linears } of measureBlocks({ ...opts, checkpoint, architecture, store: pass.store, resume }))
      await commit(pass, checkpoint, { layer, weights: new Map() }, { layers: [], measured: linears });
    return pass.finished.flatMap((b) => b.facts.measured ?? []);
  };
  return withWorkFolder(output, { fingerprint, restart, keep: collected.length > 0 }, async (work: WorkFolder<BlockFacts>) => {
    const resumedBlocks = work.finished.length;
    const sizes = calibration.map((w) => w.length * architecture.hidden);
    const { equalize = [] } = recipe;
    const count = equalize.length + (collected.length ? 1 : 0) + 1;
    const passes = Array.from({ length: count }, (_, i) => passOf(work, i, architecture.layers + 1)); // with the head
    const last = passes.pop()!;
    const gradients = collected.length ? passes.pop() : undefined;
    const spent = plan && allocateBudget(recipe, plan, await measure(passOf(work, count, architecture.layers + 1), sizes));
    const { equalize: _, ...quantizing } = spent?.recipe ?? recipe;
    let result: Checkpoint = checkpoint;
    for (const [i, pass] of passes.entries()) {
      const common = { ...opts, checkpoint: result, architecture, store: pass.store, resume: await pass.resume(sizes) };
      for await (const block of equalizeBlocks({ ...common, recipe: { ...quantizing, equalize }, stage: equalize[i]! }))
        await commit(pass, checkpoint, block, { layers: [], equalized: block.report });
      result = laidOver(result, pass);
    }
    if (gradients) {
      const resume = gradients.resumeFisher(sizes);
      const common = { ...opts, checkpoint: result, architecture, store: gradients.store, resume };
      for await (const { layer, sums } of fisherBlocks({ ...common, sites: collected }))
        await gradients.commit(layer, fisherTensors(sums), { manifest: '', layers: [] });
    }
    const found = fisher ?? (gradients && fisherIn(gradients.finished.map((b) => b.file)));
    const common = { ...opts, fisher: found, checkpoint: result, architecture, store: last.store, resume: await last.resume(sizes) };
    for await (const block of quantizeBlocks({ ...common, recipe: quantizing }))
      await commit(last, checkpoint, block, { layers: block.layers });
    result = laidOver(result, last);
    const quantized = last.finished.flatMap((b) => b.facts.layers);
    const equalized = passes.flatMap((p) => p.finished.flatMap((b) => b.facts.equalized ?? []));
    const exported = { ...opts, ...source, output, layers: quantized, budget: spent?.report, beforeRename: work.placing };
    const written = await exportModel(result, { ...exported, recipe: { ...quantizing, ...(equalize.length && { equalize }) } });
    const { bytes, notes } = written;
    const layers = [...quantized, ...written.layers];
    const weights = layers.reduce((sum, l) => sum + l.weights, 0);
    return {
      output: written.files.length > 1 ? written.files[0]! : opts.output,
      method: recipe.stages[0]?.method ?? 'none',
      variant: backend.variant,
      bitsPerWeight: weights ? layers.reduce((sum, l) => sum + l.bitsPerWeight * l.weights, 0) / weights : 0,
      bytes,
      seconds: (Date.now() - start) / 1000,
      resumedBlocks,
      layers,
      ...(equalized.length && { equalized }),
      ...(spent && { budget: spent.report }),
      notes,
    };
  });
}

/** Writes the result in the format of the recipe. */
async function exportModel(
  result: Checkpoint,
  opts: QuantizeModelOpts &
    PlaceOpts & { architecture: Architecture; folder: string; name: string; layers: LayerReport[]; budget?: BudgetReport },
): Promise<ExportedGguf> {
  const { architecture, recipe, folder, output } = opts;
  const target = recipe.export;
  const companions = { folder, files: {} };
  const whole = { layers: [], files: [output] };
  if (target === 'lmq') return { ...whole, ...(await exportLmq(result, { ...opts, companions, info: { recipe } })) };
  if (target === 'onnx') return { ...whole, ...(await exportOnnx(result, { ...opts, companions })) };
  if (isFolderName(target))
    return { ...whole, ...(await exportFolder(result, { ...opts, companions, target, linears: linearsOf(architecture) })) };
  return exportGguf(result, opts);
}

/**
 * The linears whose Fisher information has to be collected first.
 * @throws LmqError what `checkFisher` throws; `calibration/short` when it has to be and there is no text
 */
export function sitesToCollect(planned: readonly PlannedSite[], fisher: Fisher | undefined, calibration: readonly unknown[] = []): Site[] {
  if (fisher) checkFisher(fisher, planned);
  const users = fisher ? [] : [...new Set(planned.filter((p) => usesFisher(p.stage)).map((p) => p.site))];
  if (!users.length || calibration.length) return users;
  throw new LmqError('calibration/short', 'SqueezeLLM counts weights by squared gradients, which need calibration text', {
    op: 'quantize',
    expected: 'at least one window of tokens, or saved Fisher information',
    found: 0,
    hint: 'Give text, or what lmq calibrate --export fisher saved; or choose sensitivity hessian-diagonal, for which saved statistics do.',
  });
}

/** @throws LmqError `argument/option` for importances that nothing would weigh */
export function checkImportance(importance: Importance | undefined, recipe: Recipe): void {
  if (!importance || recipe.stages[0]?.method === 'ggml') return;
  throw new LmqError('argument/option', 'importances are for the method ggml', {
    op: 'quantize',
    found: recipe.stages[0]?.method ?? 'no method',
    hint: 'Leave them out, or the method.',
  });
}

/** Records a block. Vectors keep the shape that they have in the source. */
function commit(
  work: WorkPass<BlockFacts>,
  source: Checkpoint,
  { layer, weights, inputs }: Pick<BlockResult, 'layer' | 'weights'> & Partial<Pick<BlockResult, 'inputs'>>,
  facts: Omit<BlockFacts, 'manifest'>,
): Promise<void> {
  const packed = [...weights].map(
    ([name, t]) => [name, toLmqTensors(name, t, source.tensors.get(name)?.shape, inputs?.get(name))] as const,
  );
  const manifest = lmqManifest(packed.map(([name, p]) => [name, p.entry]));
  return work.commit(
    layer,
    packed.flatMap(([, p]) => p.tensors),
    { manifest, ...facts },
  );
}

/** What a pass has finished, over what it began with. */
function laidOver(base: Checkpoint, { finished }: WorkPass<BlockFacts>): Checkpoint {
  return stack(
    base,
    finished.map((b) => openLmq(b.facts.manifest, b.file)),
  );
}
