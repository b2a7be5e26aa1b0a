import { existsSync, readFileSync } from 'node:fs';
import { type Checkpoint, memorySource, openGguf, openSafetensors } from '@lmq/checkpoints';
import { jsBackend } from '@lmq/kernels-js';
import { wasmBackend } from '@lmq/kernels-wasm';
import { NANO_MODELS, type NanoModelName } from '@lmq/nano';
import type { Backend, CompressedTensor } from '@lmq/tensor';
import { type Architecture, createTokenizer, parseGgufConfig, parseHfConfig, type Tokenizer, tokenizerFromGguf } from '../src/index.js';

/** The shared folder beside the repository; tests that need it are skipped where it is absent. */
export const SHARED = new URL('../../../../shared/', import.meta.url);
export const hasShared = existsSync(SHARED);
export const SKIP_NOTE = hasShared ? '' : ' (skipped: ../shared is absent)';

export const BACKENDS: Record<string, () => Backend | Promise<Backend>> = { js: jsBackend, wasm: () => wasmBackend() };

export const readJson = (url: URL) => JSON.parse(readFileSync(url, 'utf8'));
const bytesOf = (url: URL) => memorySource(new Uint8Array(readFileSync(url)), url.pathname.split('/').pop()!);

export interface Opened {
  checkpoint: Checkpoint;
  architecture: Architecture;
  tokenizer: Tokenizer;
}

/** A Hugging Face folder with one safetensors file. */
export async function openFolder(folder: URL): Promise<Opened> {
  const checkpoint = await openSafetensors(bytesOf(new URL('model.safetensors', folder)));
  const json = (name: string) => readJson(new URL(name, folder));
  return {
    checkpoint,
    architecture: parseHfConfig(json('config.json'), (name) => checkpoint.tensors.has(name)),
    tokenizer: createTokenizer(json('tokenizer.json'), json('tokenizer_config.json'), json('generation_config.json')),
  };
}

export const openNano = (name: NanoModelName) => openFolder(NANO_MODELS[name].folder);

export interface Golden {
  prompt_ids: number[];
  nll: number[];
  mean_nll: number;
  last_logits: number[];
  argmax: number[];
  routes?: number[][][];
  greedy_ids: number[];
}
export const nanoGolden = (name: NanoModelName): Golden => readJson(new URL('golden.json', NANO_MODELS[name].folder));

export async function openGgufFile(url: URL): Promise<Opened> {
  const checkpoint = await openGguf(bytesOf(url));
  return {
    checkpoint,
    architecture: parseGgufConfig(checkpoint.metadata, (name) => checkpoint.tensors.has(name)),
    tokenizer: tokenizerFromGguf(checkpoint.metadata),
  };
}

/** A checkpoint with some tensors replaced or, with null, removed. */
export function patched(base: Checkpoint, patches: Record<string, (CompressedTensor & { stored?: number[] }) | null>): Checkpoint {
  const tensors = new Map(base.tensors);
  for (const [name, t] of Object.entries(patches)) {
    if (t === null) tensors.delete(name);
    else tensors.set(name, { name, shape: t.stored ?? t.shape, format: t.kind, bytes: 0, file: 'patched' });
  }
  const read = async (name: string): Promise<CompressedTensor> => {
    if (!patches[name]) return base.read(name);
    const { stored: _, ...t } = patches[name];
    return t as CompressedTensor;
  };
  return { ...base, tensors, read };
}

/** Losses of next tokens and argmax per row, from logits, in double. */
export function lossesOf(logits: Float32Array, vocab: number, ids: readonly number[]): { nll: number[]; argmax: number[] } {
  const nll: number[] = [];
  const argmax: number[] = [];
  for (let t = 0; t < ids.length; t++) {
    const row = logits.subarray(t * vocab, (t + 1) * vocab);
    const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const sum = row.reduce((a, b) => a + Math.exp(b - max), 0);
    argmax.push(row.indexOf(max));
    if (t + 1 < ids.length) nll.push(max + Math.log(sum) - row[ids[t + 1]!]!);
  }
  return { nll, argmax };
}

export const maxDifference = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  if (a.length !== b.length) throw new Error(`lengths differ: ${a.length}, ${b.length}`);
  let max = 0;
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i]! - b[i]!);
    if (!(d <= max)) max = d; // keeps NaN
  }
  return max;
};
