/**
 * A whole model in a backend: embedding, blocks, final norm, head.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import {
  type Activations,
  type Backend,
  createPhase,
  type Handle,
  LmqError,
  type LoadedLinear,
  type LongCallOpts,
  type Scope,
} from '@lmq/tensor';
import { readNorm, readWeight } from './_weights.js';
import type { Architecture, Block, LoadedSite, Model, RopeTables } from './api.js';
import { blockForward, loadResidentBlock } from './block.js';
import { createKvCache } from './cache.js';
import { readHead } from './head.js';
import { loadRope } from './rope.js';

export interface LoadModelOpts extends LongCallOpts {
  checkpoint: Checkpoint;
  architecture: Architecture;
  backend: Backend;
  /**
   * How the inputs of quantized linears are multiplied: exactly, or faster in integers. Default `float32`, which a head that is the
   * embedding matrix always gets.
   */
  activations?: Activations;
}

/** First size of the RoPE tables; they grow with the positions that are used. */
const FIRST_POSITIONS = 1024;

/**
 * Reads every weight, one tensor at a time, into a backend; tied embeddings are loaded once. The caller disposes the model. The
 * checkpoint may be closed afterwards.
 * @throws LmqError as `loadBlock`; the abort reason of `signal`. Nothing stays loaded then.
 */
export async function loadModel(opts: LoadModelOpts): Promise<Model> {
  const { checkpoint, architecture: a, backend } = opts;
  const op = 'loadModel';
  const step = createPhase('load', a.layers + 1, 'layers', opts);
  const home = backend.scope();
  const loaded: { dispose(): void }[] = [home];
  const add = <T extends { dispose(): void }>(x: T): T => {
    loaded.push(x);
    return x;
  };
  try {
    step(0);
    const how = { activations: opts.activations };
    const embedding = add(backend.load({ weight: await readWeight(checkpoint, a.tensors.embedding, [a.vocab, a.hidden], op) }));
    const head = a.tensors.head === a.tensors.embedding ? embedding : add(backend.load(await readHead(checkpoint, a), how));
    const finalNorm = home.upload(await readNorm(checkpoint, a.tensors.finalNorm, a.hidden, a.norm.plusOne, op));
    step(1);
    const blocks: Block<LoadedSite>[] = [];
    for (let l = 0; l < a.layers; l++) {
      blocks.push(add(await loadResidentBlock(checkpoint, a, l, backend, how)));
      step(l + 2, `layers.${l}`);
    }
    return createModel(a, backend, embedding, head, finalNorm, blocks, loaded);
  } catch (e) {
    for (const x of loaded) x.dispose();
    throw e;
  }
}

/**
 * The residual stream before the first block, [ids.length, hidden] in `s`: embeddings, scaled where the architecture says so.
 * @param table the loaded embedding matrix
 */
export function embedTokens(s: Scope, architecture: Architecture, table: LoadedLinear, ids: ArrayLike<number>): Handle {
  const x = s.embedding(table, ids);
  if (architecture.embeddingScale === undefined) return x;
  const out = s.alloc(x.rows, x.cols);
  s.addTo(out, x, architecture.embeddingScale);
  s.free(x);
  return out;
}

function createModel(
  architecture: Architecture,
  backend: Backend,
  embedding: LoadedLinear,
  head: LoadedLinear,
  finalNorm: Handle,
  blocks: Block<LoadedSite>[],
  owned: { dispose(): void }[],
): Model {
  let rope: RopeTables | undefined;
  /** Tables that reach `positions`. Smaller ones stay until the end: another forward pass may be using them. */
  const ropeFor = (positions: number): RopeTables => {
    if (rope && rope.positions >= positions) return rope;
    let size = FIRST_POSITIONS;
    while (size < positions) size *= 2;
    rope = loadRope(architecture, backend, Math.min(size, architecture.context));
    owned.push(rope);
    return rope;
  };

  const model: Model = {
    architecture,
    backend,
    blocks,
    get bytes() {
      const tables = embedding.bytes + (head === embedding ? 0 : head.bytes);
      return blocks.reduce((sum, block) => sum + block.bytes, tables + 4 * architecture.hidden);
    },
    async hidden(s, ids, opts = {}) {
      const { cache, tap, onRoutes, lastOnly = false } = opts;
      const position = cache?.length ?? 0;
      checkIds(ids, position, architecture);
      const tables = ropeFor(position + ids.length);
      let x = embedTokens(s, architecture, embedding, ids);
      for (const block of blocks) {
        const cached = cache?.layers[block.layer];
        const y = await blockForward(s, block, x, { architecture, rope: tables, position, cache: cached, tap, onRoutes });
        s.free(x);
        x = y;
      }
      const rows = lastOnly ? s.view(x, [x.rows - 1, x.rows]) : x;
      const states = s.rmsNorm(rows, finalNorm, architecture.norm.eps);
      s.free(x);
      return states;
    },
    get outliers() {
      const counts = [head, ...blocks.flatMap((block) => [...block.linears.values()].map((l) => l.loaded))].flatMap(
        (l) => l.outliers ?? [],
      );
      if (counts.length === 0) return undefined;
      return counts.reduce((sum, c) => ({ columns: sum.columns + c.columns, of: sum.of + c.of }), { columns: 0, of: 0 });
    },
    head: (s, states) => s.linear(states, head),
    async forward(s, ids, opts) {
      const states = await model.hidden(s, ids, opts);
      const logits = s.linear(states, head);
      s.free(states);
      await s.flush();
      return logits;
    },
    createCache: (tokens) => createKvCache(backend, architecture, tokens),
    dispose() {
      for (const x of owned) x.dispose();
    },
  };
  return model;
}

function checkIds(ids: ArrayLike<number>, position: number, { context, vocab }: Architecture): void {
  const op = 'forward';
  if (ids.length === 0) throw new LmqError('argument/value', 'there are no token ids', { op, expected: 'at least one' });
  if (position + ids.length > context) {
    throw new LmqError('argument/value', "the tokens leave the model's context", {
      op,
      expected: `at most ${context} positions`,
      found: position + ids.length,
      hint: 'Use shorter windows, or a model with a longer context.',
    });
  }
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (Number.isInteger(id) && id >= 0 && id < vocab) continue;
    throw new LmqError('argument/value', `ids[${i}] is not a token of this model`, {
      op,
      expected: `0 … ${vocab - 1}`,
      found: id,
      hint: 'Use the tokenizer that belongs to the model.',
    });
  }
}
