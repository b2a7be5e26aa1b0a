/**
 * Fisher information where methods find it: in a file, or in memory.
 *
 * A safetensors file. One tensor a linear, under its Hugging Face module name: Σ g², float32 [out, in]. Metadata, all strings: `lmq.fisher` (the
 * version of this format), `lmq.model`, `lmq.architecture`, `lmq.calibration`, `lmq.arithmetic` (where the sums come from), `lmq.sequences` and
 * `lmq.tokens`. The file is somebody else's: read strictly, and sums are looked at before use.
 * @module
 */
import { type ByteSource, openSafetensors, type SafetensorsFile, type TensorToWrite } from '@lmq/checkpoints';
import { decode } from '@lmq/formats';
import { type ErrorFacts, LmqError, type Matrix } from '@lmq/tensor';
import { usesFisher } from './_own-grids.js';
import { type FisherBlocksOpts, fisherBlocks } from './fisher-blocks.js';
import type { PlannedSite } from './plan.js';
import type { StatisticsOrigin } from './statistics.js';

const VERSION = '1';

/** Fisher information of linears, by name; see {@link fisherBlocks}. */
export interface Fisher {
  /** Σ g² [out, in]; undefined when there is none of that name. */
  of(name: string): { readonly shape: readonly [number, number]; read(): Promise<Matrix> } | undefined;
}

/** Of a file. Sums are read when they are asked for; `read` throws `file/format` for what no sum can be. */
export interface SavedFisher extends Fisher {
  /** Name of the file. */
  readonly file: string;
  readonly origin: StatisticsOrigin;
  /** Calibration windows, and their tokens. */
  readonly sequences: number;
  readonly tokens: number;
  close(): Promise<void>;
}

/** The metadata of a file, for `writeSafetensors`. */
export function fisherMetadata(origin: StatisticsOrigin, counts: { sequences: number; tokens: number }): Record<string, string> {
  const metadata: Record<string, string> = { 'lmq.fisher': VERSION };
  for (const [key, value] of Object.entries({ ...origin, ...counts })) metadata[`lmq.${key}`] = String(value);
  return metadata;
}

/** The sums of {@link fisherBlocks} as tensors to write. */
export function fisherTensors(sums: Iterable<readonly [name: string, sum: Matrix]>): TensorToWrite[] {
  return Array.from(sums, ([name, { data, shape }]) => {
    const bytes = async () => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return { name, shape: [...shape], dtype: 'F32', bytes };
  });
}

/**
 * Opens a file and checks everything but the sums. The source stays the caller's when this throws.
 * @throws LmqError `file/format` for a file of something else; `file/*` when it is damaged
 */
export async function openFisher(source: ByteSource): Promise<SavedFisher> {
  const saved = await openSafetensors(source);
  const file = source.name;
  const bad = (what: string, facts: ErrorFacts): never => {
    throw new LmqError('file/format', what, { op: 'fisher', file, hint: 'Make the file with lmq calibrate --export fisher.', ...facts });
  };
  const text = (key: string): string => {
    const value = saved.metadata.get(key);
    return typeof value === 'string' ? value : bad('this is no Fisher information of lmq', { expected: `${key} in the metadata` });
  };
  const count = (key: string): number => {
    const value = text(key);
    return /^[1-9]\d{0,14}$/.test(value) ? Number(value) : bad('a count is not a number', { expected: key, found: value });
  };
  const version = text('lmq.fisher');
  if (version !== VERSION) bad('the file has another version', { expected: VERSION, found: version });
  for (const { name, shape } of saved.tensors.values()) {
    if (saved.dtype(name) !== 'F32' || shape.length !== 2)
      bad('a sum is not a matrix', { tensor: name, expected: 'F32 [out, in]', found: `${saved.dtype(name)} [${shape.join(', ')}]` });
  }
  return {
    file,
    origin: {
      model: text('lmq.model'),
      architecture: text('lmq.architecture'),
      calibration: text('lmq.calibration'),
      arithmetic: text('lmq.arithmetic'),
    },
    sequences: count('lmq.sequences'),
    tokens: count('lmq.tokens'),
    ...fisherIn([saved], (tensor, found) => bad('this is no sum of squares', { tensor, found })),
    close: () => saved.close(),
  };
}

/** The sums in several files, those of a working folder. */
export function fisherIn(
  files: readonly SafetensorsFile[],
  onBad: (tensor: string, found: number) => never = (tensor, found) => {
    throw new LmqError('file/format', 'this is no sum of squares', { op: 'fisher', tensor, found, hint: 'Start again with --restart.' });
  },
): Fisher {
  return {
    of(name) {
      const file = files.find((f) => f.tensors.has(name));
      if (!file) return undefined;
      const [out = 0, width = 0] = file.tensors.get(name)!.shape;
      const read = async () => {
        const sum = decode(await file.read(name));
        const wrong = sum.data.findIndex((v) => !(v >= 0 && v < Number.POSITIVE_INFINITY));
        return wrong < 0 ? sum : onBad(name, sum.data[wrong]!);
      };
      return { shape: [out, width], read };
    },
  };
}

/**
 * Collects the Fisher information of a model into memory: 4 bytes a weight.
 * @throws LmqError what `fisherBlocks` throws
 */
export async function collectFisher(opts: FisherBlocksOpts): Promise<Fisher> {
  const all = new Map<string, Matrix>();
  for await (const { sums } of fisherBlocks(opts)) for (const [name, sum] of sums) all.set(name, sum);
  return {
    of(name) {
      const sum = all.get(name);
      return sum && { shape: [sum.shape[0]!, sum.shape[1]!], read: async () => sum };
    },
  };
}

/**
 * Refuses Fisher information that cannot serve a plan.
 * @throws LmqError `argument/option` when nothing in the plan would use it; `argument/value` for that of another model
 */
export function checkFisher(fisher: Fisher, planned: readonly PlannedSite[]): void {
  const users = planned.filter((p) => usesFisher(p.stage));
  if (!users.length) {
    throw new LmqError('argument/option', 'nothing would use Fisher information', {
      op: 'quantize',
      expected: 'method squeezellm with sensitivity fisher',
      hint: 'Leave it out.',
    });
  }
  for (const { site, out, in: width } of users) {
    const shape = fisher.of(site.name)?.shape;
    if (shape?.[0] === out && shape[1] === width) continue;
    throw new LmqError('argument/value', 'the Fisher information is of another model', {
      op: 'quantize',
      tensor: site.name,
      expected: `${out} x ${width}`,
      found: shape ? shape.join(' x ') : 'no such linear',
      hint: 'Collect that of this model: lmq calibrate --export fisher.',
    });
  }
}
