/**
 * The block loop of methods that calibrate on the model quantized so far.
 * @module
 */
import { type Block, blockForward, loadBlock, loadFinalNorm } from '@lmq/model';
import { createCrossTerm, createHessian } from '@lmq/quant-core';
import type { Handle, Scope } from '@lmq/tensor';
import { floatPass } from './_float-inputs.js';
import { headHome } from './_head.js';
import { feedStarved, fewestTokens } from './_starved.js';
import { disposeSums, type Sums } from './_sums.js';
import { startWindows, type WindowRun } from './_windows.js';
import type { ActivationStore } from './activations.js';
import { addRange, planInput, type RangeObservers } from './input-quant.js';
import { calibrates, hasStaticInput, isAsymmetric, type PlannedSite } from './plan.js';
import type { BlockResult, QuantizeBlocksOpts, QuantizeSites } from './quantize-blocks.js';

/** Sets of linears of a block that true-sequential calibration handles one after another, by the end of their input's name. */
const SEQUENTIAL_SETS = [/\.qkv$/, /\.o$/, /\.(mlp|moe)$/, /\.down$/];

/** Activations before a block. At the first block both are one store. */
interface Streams {
  inputs: ActivationStore;
  /** Of the float model; there when GPTAQ needs it. */
  float?: ActivationStore;
}

/** Quantizes and yields every block up to the last that has something to quantize, and the head when it has. */
export async function* calibratedBlocks(
  opts: QuantizeBlocksOpts,
  planned: readonly PlannedSite[],
  quantize: QuantizeSites,
): AsyncGenerator<BlockResult> {
  const { checkpoint, architecture, backend } = opts;
  const lastLayer = Math.max(...planned.map((p) => p.site.layer));
  const asymmetric = planned.some((p) => isAsymmetric(p.stage));
  const run = startWindows(opts, 'quantize');
  const fewest = planned[0]!.stage.minTokens ?? fewestTokens(architecture, run.tokens);
  try {
    const { layer: first = 0, float: left } = opts.resume ?? {};
    const inputs = await run.begin(opts.resume);
    let streams: Streams = { inputs, ...(asymmetric && { float: first ? run.adopt(left, first) : inputs }) };
    for (let layer = first; layer <= lastLayer; layer++) {
      const sites = planned.filter((p) => p.site.layer === layer);
      if (layer === architecture.layers) {
        yield await calibratedHead(opts, run, streams, sites, quantize);
        for (const store of new Set<ActivationStore>(Object.values(streams))) await run.remove(store);
        break;
      }
      const sets = setsOf(sites);
      const block = await loadBlock(checkpoint, architecture, layer, backend);
      let original = block; // until its first set is quantized
      try {
        if (asymmetric && sets.length > 1) original = await loadBlock(checkpoint, architecture, layer, backend);
        const result: BlockResult = { layer, weights: new Map(), inputs: new Map(), layers: [] };
        const float = asymmetric && layer < lastLayer ? await run.makeStore(layer + 1, 'float') : undefined;
        for (const [i, set] of sets.entries()) {
          const sums = new Map<string, Sums>();
          try {
            for (const p of set) addSums(sums, p, opts);
            await observe(run, streams, block, original, sums, i === 0 ? float : undefined);
            const solved = set.filter((p) => calibrates(p.stage));
            const fed = solved.flatMap((p) => (p.stage.fallback === undefined ? p.site : []));
            await feedStarved(run, fed, sums, { block, original, ...streams, fewest });
            for (const { site, stage } of solved) {
              const own = sums.get(site.input)!;
              if (stage.fallback !== undefined && own.hessian.tokens < fewest) own.reached ??= own.hessian.tokens;
            }
            await quantize(result, block, set, (input) => sums.get(input));
          } finally {
            disposeSums(sums.values());
          }
        }
        const before = new Set<ActivationStore>(Object.values(streams));
        if (layer < lastLayer) {
          const inputs = await run.makeStore(layer + 1);
          await run.advance(`run block ${layer}`, block, streams.inputs, inputs);
          streams = { inputs, ...(float && { float }) };
        }
        yield result;
        for (const store of before) await run.remove(store);
      } finally {
        block.dispose();
        if (original !== block) original.dispose();
      }
    }
  } finally {
    await run.end();
  }
}

/** Quantizes the head for what the final norm gives it, and with GPTAQ what it gives it in the float model. */
async function calibratedHead(
  opts: QuantizeBlocksOpts,
  run: WindowRun,
  { inputs, float }: Streams,
  sites: readonly PlannedSite[],
  quantize: QuantizeSites,
): Promise<BlockResult> {
  const { checkpoint, architecture, backend } = opts;
  const norm = await loadFinalNorm(checkpoint, architecture, backend);
  const sums = new Map<string, Sums>();
  try {
    for (const p of sites) addSums(sums, p, opts);
    await run.eachWindow('calibrate head', async (s, i) => {
      const x = norm.forward(s, await run.upload(s, inputs, i));
      for (const { hessian, crossTerm, ranges } of sums.values()) {
        hessian.add(x);
        if (ranges) await addToRanges(s, ranges, x);
        crossTerm?.add(norm.forward(s, await run.upload(s, float!, i)), x);
      }
    });
    const result: BlockResult = { layer: architecture.layers, weights: new Map(), inputs: new Map(), layers: [] };
    await quantize(result, await headHome(checkpoint, architecture), sites, (input) => sums.get(input));
    return result;
  } finally {
    disposeSums(sums.values());
    norm.dispose();
  }
}

/** With true-sequential calibration, the sets of a block in the order of its data flow; otherwise all at once. Never no set. */
function setsOf(sites: PlannedSite[]): PlannedSite[][] {
  if (!sites.some((s) => s.stage.trueSequential)) return [sites];
  return SEQUENTIAL_SETS.map((end) => sites.filter((s) => end.test(s.site.input))).filter((set) => set.length);
}

function addSums(sums: Map<string, Sums>, { site, stage, in: width }: PlannedSite, { backend }: QuantizeBlocksOpts): void {
  let own = sums.get(site.input);
  if (!own) {
    own = { hessian: createHessian(backend, width) };
    sums.set(site.input, own);
  }
  if (isAsymmetric(stage)) own.crossTerm ??= createCrossTerm(backend, width);
  if (!hasStaticInput(stage)) return;
  own.ranges ??= new Map();
  addRange(own.ranges, planInput(stage.input!));
}

async function addToRanges(s: Scope, ranges: RangeObservers, x: Handle): Promise<void> {
  const values = await s.read(x);
  for (const observer of ranges.values()) observer.add(values);
}

/**
 * Runs every window through a block to fill the sums, and first, where the sums or `out` need it, through the float block.
 * @param out takes what comes out of the float block
 */
async function observe(
  run: WindowRun,
  streams: Streams,
  block: Block,
  original: Block,
  sums: ReadonlyMap<string, Sums>,
  out: ActivationStore | undefined,
): Promise<void> {
  const wanted = new Set([...sums].flatMap(([input, { crossTerm }]) => (crossTerm ? input : [])));
  const runsFloat = streams.float && (wanted.size > 0 || out);
  if (!sums.size && !runsFloat) return;
  await run.eachWindow(`calibrate block ${block.layer}`, async (s, i) => {
    const float = runsFloat ? await floatPass(s, original, await run.upload(s, streams.float!, i), run.context, wanted) : undefined;
    if (float && out) await out.put(i, (await s.read(float.output)).data);
    if (!sums.size) return;
    const observed: [RangeObservers, Handle][] = [];
    await blockForward(s, block, await run.upload(s, streams.inputs, i), {
      ...run.context,
      onRoutes: (_, top) => float?.route(top),
      tap: (input, x) => {
        const { hessian, crossTerm, ranges } = sums.get(input) ?? {};
        hessian?.add(x);
        if (ranges) observed.push([ranges, s.copy(x)]);
        if (!crossTerm || !float) return;
        const own = s.backend.scope();
        try {
          crossTerm.add(float.of(own, input), x);
        } finally {
          own.dispose();
        }
      },
    });
    for (const [ranges, x] of observed) await addToRanges(s, ranges, x);
  });
  if (out) await run.finish(out);
}
