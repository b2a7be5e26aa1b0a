/**
 * Fisher information of the weights of linears: for each weight, the sum over the calibration windows of the squared gradient of a window's mean
 * next-token cross entropy, Σ g² (SqueezeLLM: Kim et al. 2023, equation 4; SqueezeLLM-gradients, where a hook squares the gradient of each
 * sequence before it is added up). The published code runs in bfloat16, here everything is float32.
 *
 * First the windows run forward through the model, and the inputs of every block are kept; then the gradients run back, one block at a time, so
 * that a block's sums are finished at once. Memory: one block as it is stored and loaded, its sums, one window. The activation store holds
 * (blocks + 3) · tokens · hidden floats. Time: with the forward pass, about five times that of the forward pass alone.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import {
  type Architecture,
  blockBackward,
  crossEntropyBackward,
  headSite,
  loadBlock,
  loadFinalNorm,
  readHead,
  type Site,
  siteShape,
} from '@lmq/model';
import { LmqError, type Matrix, matrix } from '@lmq/tensor';
import { startWindows, type WindowRun, type WindowsOpts } from './_windows.js';
import type { ActivationStore, Stream } from './activations.js';

export interface FisherBlocksOpts extends WindowsOpts {
  /** Linears to collect; at least one. Default: those of {@link fisherSites}. */
  sites?: readonly Site[];
  /** Go on where an earlier call stopped. */
  resume?: FisherResume;
}

/** What an earlier call has left. */
export interface FisherResume {
  /** Blocks whose sums are safe, the head as the number of blocks; from the last on. */
  finished: readonly number[];
  /** A store that was finished and not removed. */
  open(layer: number, stream: Stream): Promise<ActivationStore | undefined>;
}

/** What was collected in one block, or of the head. */
export interface BlockFisher {
  /** Of the head: the number of blocks. */
  layer: number;
  /** Σ g², float32 [out, in], by the name of the linear. Linears that no token reached have zeros. */
  sums: ReadonlyMap<string, Matrix>;
}

/** Every linear but routers, and the head where it is not the embedding matrix. */
export function fisherSites(architecture: Architecture): Site[] {
  const sites = architecture.sites.filter((s) => s.role !== 'router');
  return architecture.tied ? sites : [...sites, headSite(architecture)];
}

/**
 * Yields the head, then the blocks from the last to the first that has a linear of `sites`. When one is yielded, the stores of its own inputs and of
 * the gradient that came into it are still there, and the gradient that goes on to the block before it is finished.
 * @throws LmqError before any work: `calibration/short` without windows, or for one of a single token; `model/unsupported` for linears that
 * round their inputs. Then `argument/value` for NaN or infinite weights or sums; `file/missing` when what to go on from is not there; `signal.reason` on abort
 */
export async function* fisherBlocks(opts: FisherBlocksOpts): AsyncGenerator<BlockFisher> {
  const { checkpoint, architecture, backend, calibration = [], resume } = opts;
  const { layers } = architecture;
  const sites = opts.sites ?? fisherSites(architecture);
  checkDifferentiable(checkpoint, architecture);
  checkWindows(calibration);
  const first = Math.min(...sites.map((s) => s.layer));
  const last = resume?.finished.length ? Math.min(...resume.finished) - 1 : layers;
  if (last < first) return;
  const run = startWindows(opts, 'fisher');
  const left = async (layer: number, stream: Stream) => run.adopt(await resume?.open(layer, stream), layer);
  try {
    const inputs = new Map<number, ActivationStore>();
    if (last === layers) await runForward(opts, run, first, inputs);
    else for (let layer = first; layer <= last; layer++) inputs.set(layer, await left(layer, 'inputs'));
    let gradient = last < layers ? await left(last + 1, 'gradient') : undefined;
    for (let layer = last; layer >= first; layer--) {
      const sums = new Map<string, Float32Array>();
      for (const site of sites) {
        const [out, width] = siteShape(architecture, site);
        if (site.layer === layer) sums.set(site.name, new Float32Array(out * width));
      }
      const before = inputs.get(layer)!;
      const next = layer > first ? await run.makeStore(layer, 'gradient') : undefined;
      if (layer === layers) await throughHead(opts, run, before, sums, next);
      else {
        const from = gradient!;
        const block = await loadBlock(checkpoint, architecture, layer, backend);
        try {
          await run.eachWindow(`gradients of block ${layer}`, async (s, i) => {
            const dx = await blockBackward(s, block, await run.upload(s, before, i), await run.upload(s, from, i), {
              ...run.context,
              ...(sums.size && {
                onWeightGradient: async ({ name }, g) => {
                  const sum = sums.get(name);
                  if (sum) addSquares(sum, (await s.read(g)).data);
                },
              }),
            });
            await next?.put(i, (await s.read(dx)).data);
          });
        } finally {
          block.dispose();
        }
      }
      if (next) await run.finish(next);
      yield { layer, sums: new Map(sites.flatMap((s) => (s.layer === layer ? [[s.name, finite(architecture, s, sums)] as const] : []))) };
      await run.remove(before);
      if (gradient) await run.remove(gradient);
      gradient = next;
    }
  } finally {
    await run.end();
  }
}

/** Fills `inputs` with the stores of all blocks from `first` on, and of the head. */
async function runForward(
  { checkpoint, architecture, backend, resume }: FisherBlocksOpts,
  run: WindowRun,
  first: number,
  inputs: Map<number, ActivationStore>,
): Promise<void> {
  let layer = 0;
  for (let l = 1; resume && l <= architecture.layers; l++) {
    const left = await resume.open(l, 'inputs');
    if (!left) continue;
    inputs.set(l, run.adopt(left, l));
    layer = l;
  }
  if (layer && first === 0) inputs.set(0, run.adopt(await resume?.open(0, 'inputs'), 0));
  if (!layer) inputs.set(0, await run.begin(undefined));
  for (; layer < architecture.layers; layer++) {
    const block = await loadBlock(checkpoint, architecture, layer, backend);
    try {
      const out = await run.makeStore(layer + 1);
      inputs.set(layer + 1, out);
      await run.advance(`run block ${layer}`, block, inputs.get(layer)!, out);
    } finally {
      block.dispose();
    }
    if (layer < first) await run.remove(inputs.get(layer)!);
  }
}

/** From the loss of each window to its gradient by the last block's output, which goes to `out`. */
async function throughHead(
  { checkpoint, architecture, backend }: FisherBlocksOpts,
  run: WindowRun,
  before: ActivationStore,
  sums: ReadonlyMap<string, Float32Array>,
  out: ActivationStore | undefined,
): Promise<void> {
  const sum = sums.get(headSite(architecture).name);
  const norm = await loadFinalNorm(checkpoint, architecture, backend);
  const head = backend.load(await readHead(checkpoint, architecture));
  try {
    await run.eachWindow('gradients of the head', async (s, i) => {
      const x = await run.upload(s, before, i);
      const { dStates, dWeight } = await crossEntropyBackward(s, head, norm.forward(s, x), run.windows[i]!, { weight: sum !== undefined });
      if (sum) addSquares(sum, (await s.read(dWeight!)).data);
      await out?.put(i, (await s.read(await norm.backward(s, x, dStates))).data);
    });
  } finally {
    head.dispose();
    norm.dispose();
  }
}

function addSquares(sum: Float32Array, g: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += g[i]! * g[i]!;
}

/** @throws LmqError `argument/value` for what no sum of squares is */
function finite(architecture: Architecture, site: Site, sums: ReadonlyMap<string, Float32Array>): Matrix {
  const sum = sums.get(site.name)!;
  if (!sum.every((v) => v < Number.POSITIVE_INFINITY)) {
    throw new LmqError('argument/value', 'gradients overflow', {
      op: 'fisher',
      tensor: site.tensor,
      hint: 'Look for weights that are far too large: lmq inspect --values.',
    });
  }
  return matrix(sum, ...siteShape(architecture, site));
}

/** Refuses, before any work, what has no gradient. */
function checkDifferentiable({ inputs }: Checkpoint, architecture: Architecture): void {
  const site = [...architecture.sites, headSite(architecture)].find((s) => inputs?.has(s.tensor));
  if (!site) return;
  throw new LmqError('model/unsupported', 'a linear that rounds its input has no gradient', {
    op: 'fisher',
    tensor: site.tensor,
    found: inputs!.get(site.tensor)!.kind,
    hint: 'Take the model as it was before its inputs were quantized.',
  });
}

function checkWindows(windows: readonly ArrayLike<number>[]): void {
  const short = windows.findIndex((w) => w.length < 2);
  if (short < 0) return;
  throw new LmqError('calibration/short', 'a window predicts nothing', {
    op: 'fisher',
    expected: 'at least 2 tokens',
    found: `${windows[short]!.length} in window ${short}`,
  });
}
