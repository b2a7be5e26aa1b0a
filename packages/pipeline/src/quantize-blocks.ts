/**
 * The block loop: for each transformer block, run the calibration inputs through it, quantize its linears, and run the finished block
 * once more, so that the next block is calibrated on what this one will really give it (GPTQ's protocol).
 *
 * Memory: one block, its Hessians, and the activations of the calibration windows (tokens x hidden float32).
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { type Architecture, type Block, blockForward, loadBlock, loadRope, type RopeTables } from '@lmq/model';
import { createHessian, type Hessian } from '@lmq/quant-core';
import { type Backend, type CompressedTensor, createPhase, LmqError, type LongCallOpts } from '@lmq/tensor';
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
 * Quantizes block by block, in order; blocks without planned linears are skipped.
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

  if (!calibrates) {
    for (let layer = 0; layer <= lastLayer; layer++) {
      const sites = perLayer(layer);
      if (!sites.length) continue;
      const block = await loadBlock(checkpoint, architecture, layer, backend);
      try {
        yield await quantizeSites(block, sites, new Map(), backend, signal, () => done(++finished, sites[0]?.site.name));
      } finally {
        block.dispose();
      }
    }
    return;
  }

  const rope = loadRope(architecture, backend, Math.max(...windows.map((w) => w.length)));
  try {
    let xs = await embed(opts, windows);
    for (let layer = 0; layer <= lastLayer; layer++) {
      const sites = perLayer(layer);
      const block = await loadBlock(checkpoint, architecture, layer, backend);
      try {
        const result: BlockResult = { layer, weights: new Map(), layers: [] };
        for (const set of setsOf(sites)) {
          const hessians = new Map<string, Hessian>();
          try {
            for (const { site, in: width } of set) if (!hessians.has(site.input)) hessians.set(site.input, createHessian(backend, width));
            await runBlock(opts, block, rope, xs, { hessians, phase: `calibrate block ${layer}` });
            const part = await quantizeSites(block, set, hessians, backend, signal, (name) => done(++finished, name));
            for (const [name, t] of part.weights) result.weights.set(name, t);
            result.layers.push(...part.layers);
          } finally {
            for (const h of hessians.values()) h.dispose();
          }
        }
        if (layer < lastLayer) xs = await runBlock(opts, block, rope, xs, { phase: `run block ${layer}` });
        if (sites.length) yield result;
      } finally {
        block.dispose();
      }
    }
  } finally {
    rope.dispose();
  }
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
async function embed(
  { checkpoint, architecture, backend, signal }: QuantizeBlocksOpts,
  windows: ArrayLike<number>[],
): Promise<Float32Array[]> {
  const table = backend.load({ weight: await checkpoint.read(architecture.tensors.embedding) });
  try {
    const out: Float32Array[] = [];
    for (const ids of windows) {
      const s = backend.scope({ signal });
      try {
        out.push((await s.read(s.embedding(table, ids))).data);
      } finally {
        s.dispose();
      }
    }
    return out;
  } finally {
    table.dispose();
  }
}

/** Runs every window through a block. With Hessians, feeds them and returns nothing; without, returns the outputs. */
async function runBlock(
  opts: QuantizeBlocksOpts,
  block: Block,
  rope: RopeTables,
  xs: Float32Array[],
  { hessians, phase }: { hessians?: ReadonlyMap<string, Hessian>; phase: string },
): Promise<Float32Array[]> {
  const { architecture, backend, signal } = opts;
  const done = createPhase(phase, xs.length, 'windows', opts);
  const out: Float32Array[] = [];
  for (const [i, x] of xs.entries()) {
    const s = backend.scope({ signal });
    try {
      const h = s.upload({
        data: x,
        shape: [x.length / architecture.hidden, architecture.hidden],
        stride: [architecture.hidden, 1],
        offset: 0,
      });
      const y = await blockForward(s, block, h, {
        architecture,
        rope,
        ...(hessians && { tap: (input, t) => hessians.get(input)?.add(t) }),
      });
      if (!hessians) out.push((await s.read(y)).data);
      await s.flush();
    } finally {
      s.dispose();
    }
    done(i + 1);
  }
  return out;
}
