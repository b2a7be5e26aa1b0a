/**
 * Checks a model file or folder in every way that lmq knows, reading all of its data. What is wrong is reported, not thrown, and the rest is
 * still looked at.
 * @module
 */
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Checkpoint, readImatrix, type TensorInfo } from '@lmq/checkpoints';
import { fileSource, openCheckpoint } from '@lmq/checkpoints/node';
import { decode } from '@lmq/formats';
import { type Architecture, parseGgufConfig, parseHfConfig, ROPE_FACTORS, tokenizerFromGguf } from '@lmq/model';
import { NANO_MODELS } from '@lmq/nano';
import { createPhase, isLmqError, type LongCallOpts, printable } from '@lmq/tensor';
import { CHECKS, type CheckId, error, type Finding, findingOf, warning } from '../_verify/finding.js';
import { MODEL_CHECKS, type Subject } from '../_verify/model-checks.js';
import { meanCode, offByOne, TENSOR_CHECKS } from '../_verify/tensor-checks.js';
import { relativeError } from './changes.js';
import { compareLinears, type LinearError } from './compare-linears.js';
import { isBare } from './inspectable.js';
import { type OpenModel, openStored, openTokenizer, unquantized } from './open-model.js';
import { quantizationOf } from './quantization.js';
import { exists, optional, readConfig } from './text-files.js';

export interface VerifyModelOpts extends LongCallOpts {
  /** The original model, to measure the error of every linear against. */
  against?: OpenModel;
}

export interface VerifyModelReport {
  name: string;
  /** Absent when not even the container opens. */
  format?: string;
  /** True without errors; warnings are for people. */
  valid: boolean;
  findings: Finding[];
  /** What was checked, by id. */
  checks: typeof CHECKS;
  tensors: number;
  /** Stored bytes that were read. */
  bytes: number;
  /** With `against`: squared error of each linear relative to the original's squares, worst first. */
  errors?: LinearError[];
}

/**
 * Verifies a model.
 * @param name as for `openModel`
 * @throws LmqError `file/missing` when there is nothing of that name, `file/io`; everything else is a finding
 */
export async function verifyModel(name: string, opts: VerifyModelOpts = {}): Promise<VerifyModelReport> {
  const findings: Finding[] = [];
  const own = Object.hasOwn(NANO_MODELS, name) ? NANO_MODELS[name as keyof typeof NANO_MODELS] : undefined;
  const path = own ? fileURLToPath(own.folder) : name;
  const note = async <T>(check: CheckId, work: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await work();
    } catch (e) {
      if (!isLmqError(e) || e.code === 'file/io' || !(await exists(path))) throw e;
      findings.push(findingOf(e, e.code === 'model/missing' ? 'missing' : check));
      return undefined;
    }
  };
  const stored = await note('container', () => openCheckpoint(path));
  const report = (checkpoint?: Checkpoint, bytes = 0, errors?: LinearError[]): VerifyModelReport => ({
    name,
    ...(checkpoint && { format: checkpoint.format }),
    valid: !findings.some((f) => f.severity === 'error'),
    findings,
    checks: CHECKS,
    tensors: checkpoint?.tensors.size ?? 0,
    bytes,
    ...(errors && { errors }),
  });
  if (!stored) return report();
  try {
    if (stored.metadata.get('general.type') === 'imatrix') await note('data', () => readImportances(path));
    const folder = stored.format === 'gguf' ? undefined : (await stat(path)).isDirectory() ? path : dirname(path);
    const subject = await describe(stored, name, folder, note);
    if (folder !== undefined && subject.quantization) findings.push(...(await besideConfig(folder, subject.quantization)));
    if (subject.architecture) for (const check of MODEL_CHECKS) findings.push(...check(subject as Subject));
    const bytes = await readAll(subject, findings, opts);
    const checkpoint = subject.checkpoint;
    const { against } = opts;
    const errors =
      against &&
      subject.architecture &&
      (await note('against', () => compareLinears({ checkpoint, architecture: subject.architecture! }, against, opts)));
    if (against && checkpoint.format === 'awq')
      findings.push(warning('against', 'AWQ moves scales between layers: weights differ from the original by them, not only by rounding'));
    return report(checkpoint, bytes, errors || undefined);
  } finally {
    await stored.close();
  }
}

/** Sums have rules of their own: pairs of tensors, none below 0. */
async function readImportances(path: string): Promise<void> {
  const source = await fileSource(path);
  await readImatrix(source).finally(() => source.close());
}

type Note = <T>(check: CheckId, work: () => T | Promise<T>) => Promise<T | undefined>;

/** A checkpoint and as much as could be found out about it. */
async function describe(
  stored: Checkpoint,
  name: string,
  folder: string | undefined,
  note: Note,
): Promise<Omit<Subject, 'architecture'> & { architecture?: Architecture }> {
  if (isBare(stored, name)) return { checkpoint: stored };
  if (folder === undefined) {
    const architecture = await note('configuration', async () => {
      const factors = stored.tensors.has(ROPE_FACTORS) ? decode(await stored.read(ROPE_FACTORS)).data : undefined;
      return parseGgufConfig(stored.metadata, needed(stored), factors);
    });
    const tokenizer = await note('tokenizer', () => tokenizerFromGguf(stored.metadata));
    return { checkpoint: stored, ...(architecture && { architecture }), ...(tokenizer && { tokenizer }) };
  }
  const config = await note('configuration', () => readConfig(folder, 'config.json'));
  if (typeof config !== 'object' || config === null) return { checkpoint: stored };
  const quantization = await note('configuration', () => quantizationOf(folder, config));
  const checkpoint = (await note('configuration', () => openStored(stored, config, quantization))) ?? stored;
  const architecture = await note('configuration', () => parseHfConfig(unquantized(config), needed(checkpoint)));
  const tokenizer = await note('tokenizer', () => openTokenizer(folder));
  return { checkpoint, ...(architecture && { architecture }), ...(tokenizer && { tokenizer }), ...(quantization && { quantization }) };
}

/**
 * Whether a tensor is there, for those that decide what the architecture is. All others are taken to be there: the check `missing` names
 * each that is not, where opening a model stops at the first.
 */
function needed({ tensors, format }: Checkpoint): (name: string) => boolean {
  const deciding = format === 'gguf' ? /^(output|rope_freqs)\.weight$|\.bias$/ : /^(model\.embed_tokens|lm_head)\.weight$/;
  return (name) => tensors.has(name) || !deciding.test(name);
}

/** What the two places that say how a model was quantized must agree on: tools differ in which one they read. */
const SAID_TWICE = ['bits', 'group_size', 'sym', 'desc_act', 'checkpoint_format'];

async function besideConfig(folder: string, quantization: Record<string, unknown>): Promise<Finding[]> {
  const file = 'quantize_config.json';
  const other = (await optional(readConfig, folder, file).catch(() => undefined)) as Record<string, unknown> | undefined;
  const key = other && SAID_TWICE.find((k) => other[k] !== undefined && quantization[k] !== undefined && other[k] !== quantization[k]);
  if (!key) return [];
  return [error('labels', `${key} is ${printable(other[key])} here and ${printable(quantization[key])} in config.json`, { file })];
}

async function readAll(
  { checkpoint, architecture, quantization }: Awaited<ReturnType<typeof describe>>,
  findings: Finding[],
  opts: LongCallOpts,
): Promise<number> {
  const done = createPhase('verify', checkpoint.tensors.size, 'tensors', opts);
  const packing = gptqPacking(checkpoint, quantization);
  const format = packing ? `gptq ${packing}` : checkpoint.format;
  const means: number[] = [];
  let symmetric = true;
  let bytes = 0;
  let seen = 0;
  for (const [name, info] of checkpoint.tensors) {
    opts.signal?.throwIfAborted();
    const t = await readTensor(checkpoint, name, findings);
    done(++seen, name);
    if (!t) continue;
    bytes += info.bytes;
    for (const check of TENSOR_CHECKS) {
      const found = check(t, info, format);
      if (found) findings.push(found);
    }
    symmetric &&= t.kind !== 'affine' || t.zeroPoints === undefined;
    if (packing && t.kind === 'affine' && t.zeroPoints && t.bits <= 4) means.push(meanCode(t));
  }
  if (symmetric && quantization && quantization.sym === false && bytes)
    findings.push(warning('labels', 'the label says asymmetric, and all zero points are in the middle', { file: 'config.json' }));
  const off = packing && offByOne(means, packing);
  if (off) findings.push({ ...off, file: 'config.json' });
  const head = architecture?.tied ? checkpoint.tensors.get('lm_head.weight') : undefined;
  if (head && architecture && architecture.tensors.head !== head.name) findings.push(...(await strayHead(checkpoint, architecture, head)));
  return bytes;
}

/** The version of zero points, of GPTQ and of AutoRound, where its tensors are GPTQ's. */
function gptqPacking({ format }: Checkpoint, { checkpoint_format, format: alias, packing_format }: Record<string, unknown> = {}) {
  if (format === 'gptq') return (checkpoint_format ?? alias) === 'gptq_v2' ? 'v2' : 'v1';
  if (format !== 'auto-round' || String(packing_format).endsWith('awq')) return undefined;
  return ['auto_round', 'auto_round:gptqmodel'].includes(String(packing_format)) ? 'v2' : 'v1';
}

async function readTensor(checkpoint: Checkpoint, name: string, findings: Finding[]) {
  try {
    return await checkpoint.read(name);
  } catch (e) {
    if (!isLmqError(e) || e.code === 'file/io') throw e;
    const computes = checkpoint.format === 'onnx' && e.code === 'model/unsupported'; // integers: shapes and axes of a graph
    if (!computes) findings.push(findingOf(e, e.code === 'model/config' ? 'labels' : 'data'));
    return undefined;
  }
}

/** A head beside a tie: the tie wins in transformers, but not everywhere. */
async function strayHead(checkpoint: Checkpoint, { tensors }: Architecture, { name: tensor, file }: TensorInfo): Promise<Finding[]> {
  const [stored, embedding] = [await checkpoint.read(tensor), await checkpoint.read(tensors.embedding)];
  const same = stored.shape.join() === embedding.shape.join() && relativeError(stored, embedding) === 0;
  return same
    ? []
    : [
        warning('head', 'the head is tied to the embeddings, and a different one is stored: runtimes disagree on which counts', {
          tensor,
          file,
        }),
      ];
}
