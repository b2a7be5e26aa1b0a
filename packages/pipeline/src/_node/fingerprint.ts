/**
 * What decides a result, as strings to compare and to name.
 * @module
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { NonFinitePolicy, SafetensorsFile } from '@lmq/checkpoints';
import type { Architecture } from '@lmq/model';
import { LmqError } from '@lmq/tensor';
import type { OpenModel } from './open-model.js';

/** Everything that decides the bytes of a result. */
export type Fingerprint = Record<string, string>;

/** Changes whenever results may change for the same settings. */
const RESULT_VERSION = '3';

/** The part that every run on a model has. */
export async function fingerprintOf(model: OpenModel, variant: string): Promise<Fingerprint> {
  const files = [...new Set([...model.checkpoint.tensors.values()].map((t) => t.file))].sort();
  return {
    'lmq results': RESULT_VERSION,
    arithmetic: variant,
    'weight files': JSON.stringify(await Promise.all(files.map(fileState))),
    tensors: digest(JSON.stringify([...model.checkpoint.tensors.values()].map(({ file: _, ...t }) => t))),
    architecture: digest(JSON.stringify(model.architecture)),
  };
}

/** The part that a policy other than the default adds. */
export function policyPrint(nonFinite: NonFinitePolicy = 'error'): Fingerprint {
  return nonFinite === 'error' ? {} : { 'policy for NaN and infinity': nonFinite };
}

/** Name, size and time of a file. */
export async function fileState(file: string): Promise<[name: string, bytes: number, modified: number]> {
  const { size, mtimeMs } = await stat(file);
  return [basename(file), size, mtimeMs];
}

/** Tells calibration texts apart. */
export function windowsDigest(windows: readonly ArrayLike<number>[]): string {
  const ids = createHash('sha256');
  for (const w of windows) ids.update(`${Array.from(w).join(' ')}\n`);
  return ids.digest('hex');
}

/** Bytes looked at in the middle of each tensor. */
const SAMPLE = 4096;

/**
 * Tells models apart by content, wherever their files lie: architecture, names and shapes of tensors, and a piece of each.
 * @throws LmqError `model/unsupported` for a folder of our own
 */
export async function modelDigest({ checkpoint, architecture, name }: OpenModel): Promise<string> {
  if (!('readBytes' in checkpoint)) {
    throw new LmqError('model/unsupported', 'statistics are of original models', {
      op: 'statistics',
      file: name,
      found: checkpoint.format,
      hint: 'Start from the original Hugging Face folder.',
    });
  }
  const { readBytes } = checkpoint as SafetensorsFile;
  const { warnings: _, ...arithmetic } = architecture satisfies Architecture;
  const all = createHash('sha256').update(JSON.stringify(arithmetic));
  for (const t of [...checkpoint.tensors.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    all.update(`\n${JSON.stringify([t.name, t.format, t.shape])}\n`);
    const from = Math.max(0, Math.floor((t.bytes - SAMPLE) / 2));
    all.update(await readBytes(t.name, from, Math.min(from + SAMPLE, t.bytes)));
  }
  return all.digest('hex');
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
