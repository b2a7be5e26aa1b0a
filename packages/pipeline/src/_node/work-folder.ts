/**
 * The working folder beside an output: what a run has finished so far. A run that finds one goes on from it, if everything that decides the
 * result is as it was; the bytes of the output are then the same as without the interruption.
 *
 *     .<output>.lmq-work/
 *       fingerprint.json          what decides the result
 *       block-<i>.safetensors     tensors of block i: its quantized weights, or its statistics; the head is one more
 *       block-<i>.json            facts about them; written last: block i is finished. Every pass over the blocks has a range of numbers
 *       inputs-<i>.f32            activations before block i; only those of the next block
 *       attention-<i>.f32         the same inside block i, while it is equalized
 *       float-<i>.f32             the same in the float model, for GPTAQ
 *       gradient-<i>.f32          the gradients of the loss by them, while these run back
 *       output.json               the output, complete and about to get its name: what to know it by
 *       lock                      process id of the run at work
 * @module
 */
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { openSafetensors, type SafetensorsFile, type TensorToWrite, writeSafetensors } from '@lmq/checkpoints';
import { fileSource, isRunning, removePartials, writeFileAtomic } from '@lmq/checkpoints/node';
import { isLmqError, LmqError } from '@lmq/tensor';
import type { MakeStore } from '../activations.js';
import type { FisherResume } from '../fisher-blocks.js';
import { fileStores, openActivations } from './activation-files.js';
import type { Fingerprint } from './fingerprint.js';
import { exists, readJson } from './text-files.js';

/** A block that an earlier run, or this one, has finished. */
export interface FinishedBlock<Facts> {
  layer: number;
  file: SafetensorsFile;
  facts: Facts;
}

export interface WorkFolder<Facts> {
  readonly path: string;
  /** Blocks finished so far, in the order of their numbers or, in this run, as they were finished. */
  readonly finished: readonly FinishedBlock<Facts>[];
  /** Records a block; once it returns, the block survives a crash. */
  commit(layer: number, tensors: readonly TensorToWrite[], facts: Facts): Promise<void>;
  /** Remembers the complete output before it gets its name, so that the folder is known to be done with if it stays behind. */
  placing(temporary: string): Promise<void>;
  /** Closes the parts; the folder stays for the next run. */
  close(): Promise<void>;
  /** Closes the parts and removes the folder. */
  remove(): Promise<void>;
}

export interface WorkOpts {
  fingerprint: Fingerprint;
  /** Throw away what an earlier run has left. Default false. */
  restart?: boolean;
  /** Keep what an interrupted run leaves even when no block is finished: its activations serve. Default false. */
  keep?: boolean;
}

/** Where the working folder of an output lies. */
export function workPath(output: string): string {
  return join(dirname(output), `.${basename(output)}.lmq-work`);
}

/**
 * Does work with the working folder of `output`, which is removed when the work is done.
 * @throws LmqError what `openWorkFolder` and `work` throw
 */
export async function withWorkFolder<Facts, T>(
  output: string,
  opts: WorkOpts,
  work: (folder: WorkFolder<Facts>) => Promise<T>,
): Promise<T> {
  const folder = await openWorkFolder<Facts>(output, opts);
  try {
    const result = await work(folder);
    await folder.remove();
    return result;
  } catch (e) {
    // Kept after an interruption or trouble with files; a model that cannot be quantized will not become better by trying again.
    const hopeless = isLmqError(e) && !/^(file|backend)\//.test(e.code);
    if ((folder.finished.length || opts.keep) && !hopeless) await folder.close();
    else await folder.remove();
    throw e;
  }
}

/**
 * Removes the working folder of a run that was killed when its output was in place already, as it would have done next.
 * @returns whether there was one. That of another output of this name, about to be replaced, is still good and stays
 * @throws LmqError `file/exists` when that run is not over
 */
export async function removeFinishedWork(output: string): Promise<boolean> {
  const path = workPath(output);
  if (!(await exists(output)) || !(await exists(path))) return false;
  const left = await readdir(path);
  const known = left.includes(OUTPUT) && (await readJson(join(path, OUTPUT))) === (await identity(output));
  if (left.length && !known) return false;
  await refuseRunning(path);
  await removeFolder(path);
  return true;
}

/** What the output will be known by; see `identity`. */
const OUTPUT = 'output.json';

/** Removes a working folder, last of all by what its output is known: killed in the middle, the next run still recognizes the folder. */
async function removeFolder(path: string): Promise<void> {
  for (const file of await readdir(path)) if (file !== OUTPUT) await rm(join(path, file), { recursive: true, force: true });
  await rm(path, { recursive: true, force: true });
}

/** Tells files and folders apart under any name, until they are changed. */
async function identity(path: string): Promise<string> {
  const { ino, size, mtimeNs } = await stat(path, { bigint: true });
  return [ino, size, mtimeNs].join(' ');
}

/**
 * The block to go on at, the first that is not finished, and its inputs where they are there; undefined at the beginning.
 * @param from number under which the pass keeps its first block, see `passOf`
 */
export async function resumePoint({ path, finished }: Pick<WorkFolder<unknown>, 'path' | 'finished'>, sizes: readonly number[], from = 0) {
  const last = finished.at(-1);
  if (!last) return undefined;
  const layer = last.layer + 1;
  const inputs = await openActivations(path, from + layer, sizes, 'inputs');
  const float = await openActivations(path, from + layer, sizes, 'float');
  return { layer, ...(inputs && { inputs }), ...(float && { float }) };
}

/** One of several passes over the blocks: its part of the working folder, with numbers that begin at 0. */
export interface WorkPass<Facts> extends Pick<WorkFolder<Facts>, 'finished' | 'commit'> {
  readonly store: MakeStore;
  resume(sizes: readonly number[]): ReturnType<typeof resumePoint>;
  /** Where gradients go on, whose blocks come in falling order. */
  resumeFisher(sizes: readonly number[]): FisherResume;
}

/** @param count most blocks of a pass; pass `index` keeps its blocks from number `index * count` on */
export function passOf<Facts>(work: WorkFolder<Facts>, index: number, count: number): WorkPass<Facts> {
  const from = index * count;
  const store = fileStores(work.path);
  const pass: WorkPass<Facts> = {
    get finished() {
      const mine = work.finished.filter((b) => b.layer >= from && b.layer < from + count);
      return mine.map((b) => ({ ...b, layer: b.layer - from }));
    },
    commit: (layer, tensors, facts) => work.commit(from + layer, tensors, facts),
    store: (layer, sizes, stream) => store(from + layer, sizes, stream),
    resume: (sizes) => resumePoint({ path: work.path, finished: pass.finished }, sizes, from),
    resumeFisher: (sizes) => ({
      finished: pass.finished.map((b) => b.layer),
      open: (layer, stream) => openActivations(work.path, from + layer, sizes, stream),
    }),
  };
  return pass;
}

/**
 * Opens the working folder of an output, making it when there is none, and removes half-written outputs of killed runs.
 * @throws LmqError `argument/option` when it belongs to other work, naming what differs; `file/exists` when another process is at it
 */
export async function openWorkFolder<Facts>(output: string, { fingerprint, restart = false }: WorkOpts): Promise<WorkFolder<Facts>> {
  const path = workPath(output);
  await refuseRunning(path);
  if (restart) await rm(path, { recursive: true, force: true });
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'lock'), String(process.pid));
  await removePartials(output);

  const print = join(path, 'fingerprint.json');
  if (await exists(print)) compareFingerprints((await readJson(print)) as Fingerprint, fingerprint, path);
  else await writeText(print, JSON.stringify(fingerprint, null, 1));

  const finished: FinishedBlock<Facts>[] = [];
  const layers = (await readdir(path)).flatMap((f) => /^block-(\d+)\.json$/.exec(f)?.[1] ?? []).map(Number);
  for (const layer of layers.sort((a, b) => a - b)) finished.push(await openBlock(path, layer));

  const close = async () => {
    for (const b of finished) await b.file.close();
    finished.length = 0;
    await rm(join(path, 'lock'), { force: true });
  };
  return {
    path,
    finished,
    async commit(layer, tensors, facts) {
      await writeFileAtomic(tensorsPath(path, layer), (sink) => writeSafetensors(sink, tensors), { force: true });
      await writeText(join(path, `block-${layer}.json`), JSON.stringify(facts));
      finished.push(await openBlock(path, layer));
    },
    placing: async (temporary) => writeText(join(path, OUTPUT), JSON.stringify(await identity(temporary))),
    close,
    async remove() {
      await close();
      await removeFolder(path);
    },
  };
}

const tensorsPath = (folder: string, layer: number) => join(folder, `block-${layer}.safetensors`);

async function openBlock<Facts>(folder: string, layer: number): Promise<FinishedBlock<Facts>> {
  const facts = (await readJson(join(folder, `block-${layer}.json`))) as Facts;
  return { layer, facts, file: await openSafetensors(await fileSource(tensorsPath(folder, layer))) };
}

/** Writes a small file whole or not at all. */
function writeText(path: string, text: string): Promise<void> {
  return writeFileAtomic(path, async (sink) => sink.write(new TextEncoder().encode(text)), { force: true });
}

function compareFingerprints(old: Fingerprint, now: Fingerprint, path: string): void {
  for (const key of Object.keys({ ...now, ...old })) {
    if (old[key] === now[key]) continue;
    throw new LmqError('argument/option', `unfinished work is there, but for another ${key}`, {
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
    file: path,
    found: `process ${pid}`,
    hint: 'Wait for it, or stop it.',
  });
}
