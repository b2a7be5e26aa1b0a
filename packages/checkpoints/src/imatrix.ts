/**
 * Importance matrices of llama.cpp: for each matrix, how large its inputs were on some text, column by column. Two containers
 * (tools/imatrix/imatrix.cpp, common/imatrix-loader.cpp): a GGUF file with tensors `<name>.in_sum2` and `<name>.counts`, and the older
 * ".dat" (i32 entries; each: i32 length, name, i32 calls, i32 values, f32 values; then optionally i32 chunks, i32 length, dataset).
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { fail, isReserved } from './_checks.js';
import { typedView } from './_floats.js';
import type { ByteSource, GgufFile } from './api.js';
import { openGguf } from './gguf.js';

const OP = 'readImatrix';
const LIMITS = { entries: 1_000_000, nameBytes: 4096, bytes: 2 ** 31 } as const;
const HINT = 'Make the file with llama-imatrix or lmq calibrate.';

/** The inputs of one matrix, or of the experts of a stack in order. */
export interface ImatrixEntry {
  /** Sums of squares by column, one run of columns per matrix. */
  sums: Float32Array;
  /** What each run is a sum over: tokens (calls, in a .dat). One for all runs where the file does not tell them apart. */
  counts: Float32Array;
}

export interface Imatrix {
  /** By name of the GGUF tensor, e.g. `blk.0.attn_q.weight`. */
  entries: ReadonlyMap<string, ImatrixEntry>;
  /** Names of the texts. */
  datasets: string[];
  /** Windows of text, and tokens in each, where known. */
  chunks?: number;
  chunkSize?: number;
}

/**
 * Mean squares by column, as `encodeBlocks` takes importances. A run that no token reached, or whose inputs were all zero, says nothing of
 * its columns: they count alike, as in llama.cpp.
 * @param columns of each matrix
 * @param file for the message, where they do not fit
 * @throws LmqError `argument/value` when the entry is of matrices of another width or number
 */
export function importances(name: string, { sums, counts }: ImatrixEntry, columns: number, matrices: number, file?: string): Float32Array {
  if (sums.length !== columns * matrices || (counts.length !== 1 && counts.length !== matrices)) {
    throw new LmqError('argument/value', 'the importance matrix is of another model', {
      op: 'importances',
      ...(file !== undefined && { file }),
      tensor: name,
      expected: `${matrices} x ${columns} values`,
      found: `${counts.length} counts, ${sums.length} values`,
      hint: 'Make one of this model: lmq calibrate, llama-imatrix.',
    });
  }
  const means = new Float32Array(sums.length);
  for (let m = 0; m < matrices; m++) {
    const run = sums.subarray(m * columns, (m + 1) * columns);
    const count = counts[counts.length === 1 ? 0 : m]!;
    const silent = count === 0 || run.every((s) => s === 0);
    for (let c = 0; c < columns; c++) means[m * columns + c] = silent ? 1 : run[c]! / count;
  }
  return means;
}

/**
 * Reads either container. All of it is in memory afterwards: a number per column of each matrix. The source stays the caller's.
 * @throws LmqError `file/format` for sums that are negative or not finite, or a file of something else; `file/*` when it is damaged
 */
export async function readImatrix(source: ByteSource): Promise<Imatrix> {
  const magic = source.size >= 4 ? await source.read(0, 4) : new Uint8Array(4);
  return String.fromCharCode(...magic) === 'GGUF' ? readGguf(await openGguf(source), source.name) : readDat(source);
}

function check(entry: ImatrixEntry, tensor: string, file: string): ImatrixEntry {
  const unsound = (v: number) => !(v >= 0 && v < Number.POSITIVE_INFINITY);
  const bad = entry.counts.find(unsound) ?? entry.sums.find(unsound);
  if (bad !== undefined)
    fail('file/format', 'a sum of squares is negative or not finite', { op: OP, file, tensor, expected: '0 or more', found: bad });
  return entry;
}

async function readGguf(gguf: GgufFile, file: string): Promise<Imatrix> {
  const entries = new Map<string, ImatrixEntry>();
  const values = async (tensor: string): Promise<Float32Array> => {
    const info = gguf.tensors.get(tensor);
    if (!info)
      return fail('file/format', 'sums without counts, or counts without sums', { op: OP, file, tensor, expected: 'both', hint: HINT });
    if (info.format !== 'fp32') fail('file/format', 'sums that are not F32', { op: OP, file, tensor, found: info.format });
    return typedView(await gguf.readBytes(tensor), Float32Array);
  };
  for (const tensor of gguf.tensors.keys()) {
    const [, name, part] = /^(.+)\.(in_sum2|counts)$/.exec(tensor) ?? [];
    if (name === undefined || entries.has(name)) continue; // in_sum, and what later versions may add
    const entry = { sums: await values(`${name}.in_sum2`), counts: await values(`${name}.counts`) };
    if (part === undefined || entry.counts.length === 0 || entry.sums.length === 0 || entry.sums.length % entry.counts.length !== 0)
      fail('file/format', 'the sums are not whole runs', {
        op: OP,
        file,
        tensor,
        expected: `a multiple of ${entry.counts.length}`,
        found: entry.sums.length,
      });
    entries.set(name, check(entry, name, file));
  }
  if (entries.size === 0)
    fail('file/format', 'this is no importance matrix', { op: OP, file, expected: 'tensors named *.in_sum2', hint: HINT });
  const datasets = gguf.metadata.get('imatrix.datasets');
  const count = (key: string) => {
    const value = gguf.metadata.get(key);
    return typeof value === 'number' ? value : undefined;
  };
  const chunks = count('imatrix.chunk_count');
  const chunkSize = count('imatrix.chunk_size');
  return {
    entries,
    datasets: Array.isArray(datasets) ? datasets.filter((d) => typeof d === 'string') : [],
    ...(chunks !== undefined && { chunks }),
    ...(chunkSize !== undefined && { chunkSize }),
  };
}

async function readDat(source: ByteSource): Promise<Imatrix> {
  const file = source.name;
  if (source.size > LIMITS.bytes)
    fail('file/limit', 'the importance matrix is too large', {
      op: OP,
      file,
      expected: `at most ${LIMITS.bytes} bytes`,
      found: source.size,
    });
  const bytes = await source.read(0, source.size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let at = 0;
  const take = (n: number, what: string): number => {
    if (n > bytes.length - at)
      fail('file/truncated', `the file ends inside ${what}`, {
        op: OP,
        file,
        offset: at,
        expected: `${n} bytes`,
        found: bytes.length - at,
        hint: HINT,
      });
    at += n;
    return at - n;
  };
  const count = (what: string, least: number, most: number): number => {
    const from = take(4, what);
    const n = view.getInt32(from, true);
    if (n < least || n > most)
      fail('file/format', `${what} is out of range`, { op: OP, file, offset: from, expected: `${least} … ${most}`, found: n, hint: HINT });
    return n;
  };
  const text = (what: string, least: number): string => {
    const length = count(`the length of ${what}`, least, LIMITS.nameBytes);
    const from = take(length, what);
    try {
      return utf8.decode(bytes.subarray(from, from + length));
    } catch {
      return fail('file/format', `${what} is not valid UTF-8`, { op: OP, file, offset: from });
    }
  };
  const entries = new Map<string, ImatrixEntry>();
  const n = count('the number of entries', 1, LIMITS.entries);
  for (let i = 0; i < n; i++) {
    const start = at;
    const name = text('a name', 1);
    if (entries.has(name) || isReserved(name))
      fail('file/format', 'a name appears twice or is reserved', { op: OP, file, offset: start, found: name });
    const calls = count('a number of calls', 0, 0x7fffffff);
    const length = count('a number of values', 1, 0x7fffffff);
    const from = take(4 * length, 'its values');
    const sums = typedView(bytes.slice(from, from + 4 * length), Float32Array);
    entries.set(name, check({ sums, counts: Float32Array.of(Math.max(calls, 1)) }, name, file)); // without calls the values are means
  }
  if (at === bytes.length) return { entries, datasets: [] };
  const chunks = count('the number of chunks', 0, 0x7fffffff);
  const dataset = at === bytes.length ? '' : text('the name of the dataset', 0);
  if (at !== bytes.length)
    fail('file/format', 'something follows the last entry', { op: OP, file, offset: at, expected: `${at} bytes`, found: bytes.length });
  return { entries, datasets: dataset ? [dataset] : [], chunks };
}
