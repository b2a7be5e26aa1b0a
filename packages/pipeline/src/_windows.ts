/**
 * Calibration windows on their way through the blocks of a model, one block and one window at a time.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { type Architecture, type Block, type BlockContext, blockForward, embedTokens, loadRope, type RopeTables } from '@lmq/model';
import { type Backend, createPhase, type Handle, LmqError, type LongCallOpts, matrix, type Scope } from '@lmq/tensor';
import { type ActivationStore, type MakeStore, memoryStore, type Stream } from './activations.js';

/** What decides a run of windows through blocks. */
export interface WindowsOpts extends LongCallOpts {
  checkpoint: Checkpoint;
  architecture: Architecture;
  backend: Backend;
  /** Token windows. Nothing is drawn or cut here. */
  calibration?: ArrayLike<number>[];
  /** Keeps the activations between blocks. Default: in memory. */
  store?: MakeStore;
}

/** What the passes over the windows share. */
export interface WindowRun {
  readonly windows: readonly ArrayLike<number>[];
  /** Of all windows. */
  readonly tokens: number;
  readonly context: Pick<BlockContext, 'architecture' | 'rope'>;
  /**
   * The inputs of the first block, or of the one to go on at.
   * @throws LmqError `file/missing` when those are not there
   */
  begin(resume: { layer: number; inputs?: ActivationStore } | undefined): Promise<ActivationStore>;
  /** An empty store for the inputs of a block. */
  makeStore(layer: number, stream?: Stream): Promise<ActivationStore>;
  /** Ends the filling of a store. */
  finish(store: ActivationStore): Promise<void>;
  /**
   * Takes a store that an earlier run left.
   * @throws LmqError `file/missing` when it did not
   */
  adopt(store: ActivationStore | undefined, layer: number): ActivationStore;
  /** Removes a store that is needed no more. */
  remove(store: ActivationStore): Promise<void>;
  /** The activations of a window, in `s`. */
  upload(s: Scope, from: ActivationStore, window: number): Promise<Handle>;
  /** Calls `step` for every window, in order, with a scope that ends with the step. */
  eachWindow(phase: string, step: (s: Scope, window: number) => Promise<void>): Promise<void>;
  /** Runs every window through a block; what comes out goes to `out`, which is then finished. */
  advance(phase: string, block: Block, from: ActivationStore, out: ActivationStore): Promise<void>;
  /** Closes what is open. Finished stores stay for who goes on; half-filled ones are removed. */
  end(): Promise<void>;
}

/** @throws LmqError `calibration/short` without windows */
export function startWindows(opts: WindowsOpts, op: string): WindowRun {
  const { checkpoint, architecture, backend, signal, calibration: windows = [], store = memoryStore } = opts;
  if (!windows.length) {
    throw new LmqError('calibration/short', 'the method needs calibration text', {
      op,
      expected: 'at least one window of tokens',
      found: 0,
    });
  }
  const rope: RopeTables = loadRope(architecture, backend, Math.max(...windows.map((w) => w.length)));
  const sizes = windows.map((w) => w.length * architecture.hidden);
  const open = new Set<ActivationStore>();
  const filling = new Set<ActivationStore>();
  const run: WindowRun = {
    windows,
    tokens: windows.reduce((n, w) => n + w.length, 0),
    context: { architecture, rope },
    async begin(resume) {
      if (resume?.layer) return run.adopt(resume.inputs, resume.layer);
      const table = backend.load({ weight: await checkpoint.read(architecture.tensors.embedding) });
      try {
        const out = await run.makeStore(0);
        for (const [i, ids] of windows.entries()) {
          const s = backend.scope({ signal });
          try {
            await out.put(i, (await s.read(embedTokens(s, architecture, table, ids))).data);
          } finally {
            s.dispose();
          }
        }
        await run.finish(out);
        return out;
      } finally {
        table.dispose();
      }
    },
    async makeStore(layer, stream = 'inputs') {
      const made = await store(layer, sizes, stream);
      open.add(made);
      filling.add(made);
      return made;
    },
    async finish(full) {
      await full.finish();
      filling.delete(full);
    },
    adopt(left, layer) {
      if (!left) {
        throw new LmqError('file/missing', 'the activations to go on from are not there', {
          op,
          found: `block ${layer}`,
          hint: 'Start again from the first block.',
        });
      }
      open.add(left);
      return left;
    },
    async remove(done) {
      open.delete(done);
      await done.dispose();
    },
    upload: async (s, from, i) => s.upload(matrix(await from.get(i), windows[i]!.length, architecture.hidden)),
    async eachWindow(phase, step) {
      const done = createPhase(phase, windows.length, 'windows', opts);
      for (let i = 0; i < windows.length; i++) {
        const s = backend.scope({ signal });
        try {
          await step(s, i);
          await s.flush();
        } finally {
          s.dispose();
        }
        done(i + 1);
      }
    },
    async advance(phase, block, from, out) {
      await run.eachWindow(phase, async (s, i) => {
        const y = await blockForward(s, block, await run.upload(s, from, i), run.context);
        await out.put(i, (await s.read(y)).data);
      });
      await run.finish(out);
    },
    async end() {
      for (const s of open) await (filling.has(s) ? s.dispose() : s.close());
      rope.dispose();
    },
  };
  return run;
}
