/**
 * The working folder beside an output: what a run has finished so far. A run that finds one goes on from it, if everything that decides the
 * result is as it was; the bytes of the output are then the same as without the interruption.
 *
 *     .<output>.lmq-work/
 *       fingerprint.json          what decides the result
 *       block-<i>.safetensors     quantized weights of block i
 *       block-<i>.json            its manifest and reports; written last: block i is finished
 *       inputs-<i>.f32            activations before block i; only those of the next block
 *       lock                      process id of the run at work
 * @module
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Checkpoint, lmqManifest, openLmq, openSafetensors, toLmqTensors, writeSafetensors } from '@lmq/checkpoints';
import { fileSource, writeFileAtomic } from '@lmq/checkpoints/node';
import { LmqError } from '@lmq/tensor';
import type { LayerReport, Recipe } from '../api.js';
import type { BlockResult } from '../quantize-blocks.js';
import { exists, type OpenModel, readJson } from './open-model.js';

/** Everything that decides the bytes of the result, as strings to compare and to name. */
export type Fingerprint = Record<string, string>;

/** A block that an earlier run, or this one, has finished. */
export interface FinishedBlock {
  layer: number;
  weights: Checkpoint;
  layers: LayerReport[];
}

export interface WorkFolder {
  readonly path: string;
  /** Blocks finished so far, in order. */
  readonly finished: readonly FinishedBlock[];
  /** Records a block; once it returns, the block survives a crash. */
  commit(block: BlockResult): Promise<void>;
  /** Closes the parts; the folder stays for the next run. */
  close(): Promise<void>;
  /** Closes the parts and removes the folder. */
  remove(): Promise<void>;
}

/** Changes whenever results may change for the same recipe. */
const RESULT_VERSION = '1';

/** What decides the result of running a recipe on a model. */
export async function fingerprintOf(
  model: OpenModel,
  recipe: Recipe,
  variant: string,
  calibration: readonly ArrayLike<number>[],
): Promise<Fingerprint> {
  const files = [...new Set([...model.checkpoint.tensors.values()].map((t) => t.file))].sort();
  const sizes = await Promise.all(
    files.map(async (f) => {
      const { size, mtimeMs } = await stat(f);
      return [basename(f), size, mtimeMs];
    }),
  );
  const ids = createHash('sha256');
  for (const w of calibration) ids.update(`${Array.from(w).join(' ')}\n`);
  return {
    'lmq results': RESULT_VERSION,
    arithmetic: variant,
    recipe: JSON.stringify({ stages: recipe.stages, overrides: recipe.overrides }),
    'weight files': JSON.stringify(sizes),
    tensors: digest(JSON.stringify([...model.checkpoint.tensors.values()].map(({ file: _, ...t }) => t))),
    architecture: digest(JSON.stringify(model.architecture)),
    'calibration text': ids.digest('hex'),
  };
}

const digest = (text: string) => createHash('sha256').update(text).digest('hex');

/** Where the working folder of an output lies. */
export function workPath(output: string): string {
  return join(dirname(output), `.${basename(output)}.lmq-work`);
}

/**
 * Opens the working folder of an output, making it when there is none.
 * @param restart throw away what an earlier run has left
 * @throws LmqError `argument/option` when it belongs to other work, naming what differs; `file/exists` when another process is at it
 */
export async function openWorkFolder(output: string, fingerprint: Fingerprint, restart: boolean): Promise<WorkFolder> {
  const path = workPath(output);
  await refuseRunning(path);
  if (restart) await rm(path, { recursive: true, force: true });
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'lock'), String(process.pid));

  const print = join(path, 'fingerprint.json');
  if (await exists(print)) compareFingerprints((await readJson(print)) as Fingerprint, fingerprint, path);
  else await writeText(print, JSON.stringify(fingerprint, null, 1));

  const finished: FinishedBlock[] = [];
  const layers = (await readdir(path)).flatMap((f) => /^block-(\d+)\.json$/.exec(f)?.[1] ?? []).map(Number);
  for (const layer of layers.sort((a, b) => a - b)) finished.push(await openBlock(path, layer));

  const close = async () => {
    for (const b of finished) await b.weights.close();
    finished.length = 0;
    await rm(join(path, 'lock'), { force: true });
  };
  return {
    path,
    finished,
    async commit(block) {
      const packed = [...block.weights].map(([name, t]) => [name, toLmqTensors(name, t)] as const);
      await writeFileAtomic(
        weightsPath(path, block.layer),
        (sink) =>
          writeSafetensors(
            sink,
            packed.flatMap(([, p]) => p.tensors),
          ),
        { force: true },
      );
      const manifest = lmqManifest(packed.map(([name, p]) => [name, p.entry]));
      await writeText(join(path, `block-${block.layer}.json`), JSON.stringify({ manifest, layers: block.layers }));
      finished.push(await openBlock(path, block.layer));
    },
    close,
    async remove() {
      await close();
      await rm(path, { recursive: true, force: true });
    },
  };
}

const weightsPath = (folder: string, layer: number) => join(folder, `block-${layer}.safetensors`);

async function openBlock(folder: string, layer: number): Promise<FinishedBlock> {
  const { manifest, layers } = (await readJson(join(folder, `block-${layer}.json`))) as { manifest: string; layers: LayerReport[] };
  return { layer, layers, weights: openLmq(manifest, await openSafetensors(await fileSource(weightsPath(folder, layer)))) };
}

/** Writes a small file whole or not at all. */
function writeText(path: string, text: string): Promise<unknown> {
  return writeFileAtomic(path, async (sink) => sink.write(new TextEncoder().encode(text)), { force: true });
}

function compareFingerprints(old: Fingerprint, now: Fingerprint, path: string): void {
  for (const key of Object.keys({ ...now, ...old })) {
    if (old[key] === now[key]) continue;
    throw new LmqError('argument/option', `unfinished work is there, but for another ${key}`, {
      op: 'quantize',
      file: path,
      expected: old[key],
      found: now[key],
      hint: 'Go on with the same settings and files, or throw the unfinished work away with --restart.',
    });
  }
}

/** Two processes must not share a working folder; a lock whose process is gone was left by a crash. */
async function refuseRunning(path: string): Promise<void> {
  const lock = join(path, 'lock');
  if (!(await exists(lock))) return;
  const pid = Number(await readFile(lock, 'utf8'));
  if (!Number.isInteger(pid) || pid === process.pid || pid <= 0 || !isRunning(pid)) return;
  throw new LmqError('file/exists', 'another process is writing this output', {
    op: 'quantize',
    file: path,
    found: `process ${pid}`,
    hint: 'Wait for it, or stop it.',
  });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === 'EPERM';
  }
}
