/**
 * The block loop: for each transformer block, run the calibration inputs through it, quantize its linears, and run the finished block
 * once more, so that the next block is calibrated on what this one will really give it (GPTQ's protocol).
 *
 * Memory: one block, its Hessians, and whatever the activation store keeps (tokens x hidden float32; all of it in memory by default).
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { type Architecture, type Block, blockForward, embedTokens, loadBlock, loadRope, type RopeTables } from '@lmq/model';
import { createHessian, type Hessian } from '@lmq/quant-core';
import {
  type Backend,
  type CompressedTensor,
  createPhase,
  type Handle,
  LmqError,
  type LongCallOpts,
  matrix,
  type Scope,
} from '@lmq/tensor';
import { type ActivationStore, type MakeStore, memoryStore } from './activations.js';
import type { LayerReport, Recipe } from './api.js';
import { type PlannedSite, planSites } from './plan.js';
import { quantizeLinear } from './quantize-linear.js';

export interface QuantizeBlocksOpts extends LongCallOpts {
  checkpoint: Checkpoint;
  architecture: Architecture;
  backend: Backend;
  recipe: Recipe;
  /** Token windows; needed by methods that calibrate. Nothing is drawn or cut here. */
  calibration?: ArrayLike<number>[];
  /** Keeps the activations between blocks. Default: in memory. */
  store?: MakeStore;
  /** Go on at this block. With calibration, `inputs` are its inputs, as a store of an earlier call left them. */
  resume?: { layer: number; inputs?: ActivationStore };
}

/** What became of one block. */
export interface BlockResult {
  layer: number;
  /** Quantized weights by tensor name. */
  weights: Map<string, CompressedTensor>;
  layers: LayerReport[];
}

/** Sets of linears of a block that true-sequential calibration handles one after another, by the end of their input's name. */
const SEQUENTIAL_SETS = [/\.qkv$/, /\.o$/, /\.(mlp|moe)$/, /\.down$/];

/**
 * Quantizes block by block, in order, and yields each; with calibration also blocks of which nothing is quantized, whose outputs the next
 * ones need. When a block is yielded, the store of the next block's inputs is finished and the one of its own inputs still there.
 * @throws LmqError what `planSites` throws; `calibration/short` when a method needs calibration and there is none; `argument/value` for
 * NaN or infinite weights; `signal.reason` on abort
 */
export async function* quantizeBlocks(opts: QuantizeBlocksOpts): AsyncGenerator<BlockResult> {
  const { checkpoint, architecture, backend, recipe, signal } = opts;
  const planned = planSites(checkpoint, architecture, recipe);
  if (!planned.length) return;
  const windows = opts.calibration ?? [];
  const calibrates = planned.some((p) => p.stage.method !== 'rtn');
  if (calibrates && !windows.length) {
    throw new LmqError('calibration/short', 'the method needs calibration text', {
      op: 'quantize',
      expected: 'at least one window of tokens',
      found: 0,
    });
  }
  const lastLayer = Math.max(...planned.map((p) => p.site.layer));
  const perLayer = (layer: number) => planned.filter((p) => p.site.layer === layer);
  const done = createPhase('quantize', planned.length, 'linears', opts);
  let finished = 0;
  done(0);

  const first = opts.resume?.layer ?? 0;
  finished = planned.filter((p) => p.site.layer < first).length;
  if (first > lastLayer) return;
  if (!calibrates) {
    for (let layer = first; layer <= lastLayer; layer++) {
      const sites = perLayer(layer);
      if (!sites.length) continue;
      const block = await loadBlock(checkpoint, architecture, layer, backend);
      try {
        yield await quantizeSites(block, sites, new Map(), backend, signal, (name) => done(++finished, name));
      } finally {
        block.dispose();
      }
    }
    return;
  }

  if (first > 0 && !opts.resume?.inputs) {
    throw new LmqError('file/missing', 'the activations to go on from are not there', {
      op: 'quantize',
      found: `block ${first}`,
      hint: 'Start again from the first block.',
    });
  }
  const run: Run = {
    ...opts,
    windows,
    rope: loadRope(architecture, backend, Math.max(...windows.map((w) => w.length))),
    store: opts.store ?? memoryStore,
  };
  const open = new Set<ActivationStore>(); // to be closed, but not removed, when the work stops early
  const keep = (store: ActivationStore) => {
    open.add(store);
    return store;
  };
  try {
    let inputs = keep(opts.resume?.inputs ?? (await embed(run)));
    for (let layer = first; layer <= lastLayer; layer++) {
      const block = await loadBlock(checkpoint, architecture, layer, backend);
      try {
        const result: BlockResult = { layer, weights: new Map(), layers: [] };
        for (const set of setsOf(perLayer(layer))) {
          const hessians = new Map<string, Hessian>();
          try {
            for (const { site, in: width } of set) if (!hessians.has(site.input)) hessians.set(site.input, createHessian(backend, width));
            await observe(run, block, inputs, hessians);
            const part = await quantizeSites(block, set, hessians, backend, signal, (name) => done(++finished, name));
            for (const [name, t] of part.weights) result.weights.set(name, t);
            result.layers.push(...part.layers);
          } finally {
            for (const h of hessians.values()) h.dispose();
          }
        }
        const before = inputs;
        if (layer < lastLayer) inputs = keep(await advance(run, block, before));
        yield result;
        open.delete(before);
        await before.dispose();
      } finally {
        block.dispose();
      }
    }
  } finally {
    for (const store of open) await store.close();
    run.rope.dispose();
  }
}

/** What the passes over the calibration windows share. */
interface Run extends QuantizeBlocksOpts {
  windows: ArrayLike<number>[];
  rope: RopeTables;
  store: MakeStore;
}

/** With true-sequential calibration, the sets of a block in the order of its data flow; otherwise all at once. */
function setsOf(sites: PlannedSite[]): PlannedSite[][] {
  if (!sites.length) return [];
  if (!sites.some((s) => s.stage.trueSequential)) return [sites];
  return SEQUENTIAL_SETS.map((end) => sites.filter((s) => end.test(s.site.input))).filter((set) => set.length);
}

/** Quantizes linears of a loaded block and puts the results in their place. */
async function quantizeSites(
  block: Block,
  sites: PlannedSite[],
  hessians: ReadonlyMap<string, Hessian>,
  backend: Backend,
  signal: AbortSignal | undefined,
  done: (name: string) => void,
): Promise<BlockResult> {
  const result: BlockResult = { layer: block.layer, weights: new Map(), layers: [] };
  for (const { site, stage } of sites) {
    const { linear } = block.linears.get(site.name)!;
    const { linear: quantized, report } = await quantizeLinear(site, linear, hessians.get(site.input), stage, { backend, signal });
    block.setLinear(site.name, quantized);
    result.weights.set(site.tensor, quantized.weight);
    result.layers.push(report);
    done(site.name);
  }
  return result;
}

/** The inputs of the first block. */
async function embed(run: Run): Promise<ActivationStore> {
  const { checkpoint, architecture, backend, signal, windows } = run;
  const table = backend.load({ weight: await checkpoint.read(architecture.tensors.embedding) });
  try {
    const out = await makeStore(run, 0);
    for (const [i, ids] of windows.entries()) {
      const s = backend.scope({ signal });
      try {
        const x = embedTokens(s, architecture, table, ids);
        await out.put(i, (await s.read(x)).data);
      } finally {
        s.dispose();
      }
    }
    await out.finish();
    return out;
  } finally {
    table.dispose();
  }
}

function makeStore({ store, windows, architecture }: Run, layer: number): Promise<ActivationStore> {
  return store(
    layer,
    windows.map((w) => w.length * architecture.hidden),
  );
}

/** Runs every window through a block to feed the Hessians. */
function observe(run: Run, block: Block, inputs: ActivationStore, hessians: ReadonlyMap<string, Hessian>): Promise<void> {
  return eachWindow(run, `calibrate block ${block.layer}`, inputs, async (s, x) => {
    await blockForward(s, block, x, { architecture: run.architecture, rope: run.rope, tap: (input, t) => hessians.get(input)?.add(t) });
  });
}

/** Runs every window through a finished block: the next block's inputs. */
async function advance(run: Run, block: Block, inputs: ActivationStore): Promise<ActivationStore> {
  const out = await makeStore(run, block.layer + 1);
  try {
    await eachWindow(run, `run block ${block.layer}`, inputs, async (s, x, i) => {
      const y = await blockForward(s, block, x, { architecture: run.architecture, rope: run.rope });
      await out.put(i, (await s.read(y)).data);
    });
    await out.finish();
    return out;
  } catch (e) {
    await out.dispose();
    throw e;
  }
}

async function eachWindow(
  run: Run,
  phase: string,
  inputs: ActivationStore,
  step: (s: Scope, x: Handle, window: number) => Promise<void>,
): Promise<void> {
  const { architecture, backend, signal, windows } = run;
  const done = createPhase(phase, windows.length, 'windows', run);
  for (const [i, ids] of windows.entries()) {
    const s = backend.scope({ signal });
    try {
      await step(s, s.upload(matrix(await inputs.get(i), ids.length, architecture.hidden)), i);
      await s.flush();
    } finally {
      s.dispose();
    }
    done(i + 1);
  }
}
