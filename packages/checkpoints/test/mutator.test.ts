// Hostile files by the thousand. Each must end in an LmqError that says where, or be read such that writing it again gives the bytes that
// the format's description asks for. LMQ_FUZZ_CASES sets the number of files of each format (default 5000; before a release 50000) and
// LMQ_FUZZ_SEED another sequence.
import { createRng, isLmqError, type Rng } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { ByteSource, GgufFile, SafetensorsFile, TensorToWrite } from '../src/api.js';
import { openGguf } from '../src/gguf.js';
import { GGUF_TYPES } from '../src/gguf-types.js';
import { writeGguf } from '../src/gguf-write.js';
import { openSafetensors } from '../src/safetensors.js';
import { writeSafetensors } from '../src/safetensors-write.js';
import { memorySink } from '../src/sources.js';
import { source } from './_files.js';
import { hostileGguf } from './_mutate-gguf.js';
import { hostileSafetensors } from './_mutate-safetensors.js';
import { normalGguf, normalSafetensors } from './_normal-forms.js';

const CASES = Number(process.env.LMQ_FUZZ_CASES ?? 5000);
const SEED = Number(process.env.LMQ_FUZZ_SEED ?? 1);
/** One file may take this long, in milliseconds, and its reader may ask for this many times its size. */
const MOST_TIME = 50;
const MOST_READING = 4;
/** Growth of the process over a whole run, in bytes: V8 lets garbage lie, but one allocation that a file talked us into would show. */
const MOST_MEMORY = 384 * 2 ** 20;

interface Counted {
  source: ByteSource;
  asked: () => number;
}

function counted(bytes: Uint8Array): Counted {
  const inner = source(bytes);
  let asked = 0;
  const read = (offset: number, length: number) => {
    asked += length;
    return inner.read(offset, length);
  };
  return { source: { ...inner, read }, asked: () => asked };
}

/** Fails the test unless this is an error as the readers promise it; returns its code. */
function promised(e: unknown, size: number, codes: readonly string[], seen: string): string {
  if (!isLmqError(e)) throw new Error(`${seen}: not an LmqError`, { cause: e });
  const { code, message } = e;
  const { offset, file } = e.facts;
  if (!codes.includes(code)) throw new Error(`${seen}: code ${code}`, { cause: e });
  if (!(Number.isInteger(offset) && offset! >= 0 && offset! <= size)) throw new Error(`${seen}: offset ${offset} of ${size}: ${message}`);
  if (file !== 'test file') throw new Error(`${seen}: file ${file}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  if (message.length > 800 || /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(message))
    throw new Error(`${seen}: ${JSON.stringify(message)}`);
  return code;
}

const OPENING = ['file/format', 'file/truncated', 'file/limit'];

interface Kind {
  make: (rng: Rng) => Uint8Array;
  open: (source: ByteSource) => Promise<SafetensorsFile | GgufFile>;
  rewrite: (file: SafetensorsFile | GgufFile, sink: ReturnType<typeof memorySink>) => Promise<number>;
  /** What `rewrite` must give, and which bytes are free. */
  normal: (bytes: Uint8Array) => { bytes: Uint8Array; free: Set<number> };
}

const FLOATS: Record<string, string> = { fp32: 'F32', fp16: 'F16', bf16: 'BF16', fp64: 'F64' };
const ggufType = (format: string) => FLOATS[format] ?? (GGUF_TYPES.has(format) ? format : format.replace('int', 'I'));

const KINDS: Record<string, Kind> = {
  safetensors: {
    make: hostileSafetensors,
    open: openSafetensors,
    rewrite(opened, sink) {
      const file = opened as SafetensorsFile;
      const tensors = [...file.tensors.values()].map(
        (t): TensorToWrite => ({ name: t.name, shape: t.shape, dtype: file.dtype(t.name), bytes: () => file.readBytes(t.name) }),
      );
      return writeSafetensors(sink, tensors, Object.fromEntries(file.metadata) as Record<string, string>);
    },
    normal: (bytes) => ({ bytes: normalSafetensors(bytes), free: new Set() }),
  },
  GGUF: {
    make: hostileGguf,
    open: openGguf,
    rewrite(opened, sink) {
      const file = opened as GgufFile;
      const tensors = [...file.tensors.values()].map(
        (t): TensorToWrite => ({ name: t.name, shape: t.shape, dtype: ggufType(t.format), bytes: () => file.readBytes(t.name) }),
      );
      return writeGguf(sink, { metadata: file.entries, tensors });
    },
    normal: normalGguf,
  },
};

/** Opens a file and reads all of it. Returns how it ended, and the file when it was read. */
async function judge(kind: Kind, bytes: Uint8Array, seen: string): Promise<{ ended: string; file?: SafetensorsFile | GgufFile }> {
  const { source: from, asked } = counted(bytes);
  let file: SafetensorsFile | GgufFile;
  try {
    file = await kind.open(from);
  } catch (e) {
    if (asked() > MOST_READING * bytes.length) throw new Error(`${seen}: asked for ${asked()} of ${bytes.length} bytes`);
    return { ended: promised(e, bytes.length, OPENING, seen) };
  }
  for (const name of file.tensors.keys()) {
    try {
      await file.read(name);
    } catch (e) {
      promised(e, bytes.length, ['model/unsupported'], seen);
    }
  }
  if (asked() > MOST_READING * bytes.length) throw new Error(`${seen}: asked for ${asked()} of ${bytes.length} bytes`);
  return { ended: 'read', file };
}

describe('structure-aware mutation', () => {
  it.each(Object.keys(KINDS))('%s files end in an error that says where, or in the same file', async (name) => {
    const kind = KINDS[name]!;
    const rng = createRng(SEED);
    const ends: Record<string, number> = { read: 0 };
    let slowest = 0;
    let before = 0;
    const begun = performance.now();
    for (let i = 0; i < CASES; i++) {
      if (i === Math.min(500, CASES - 1)) before = process.resourceUsage().maxRSS * 1024; // what is compiled by now is not the files' doing
      const bytes = kind.make(rng);
      const seen = `${name} ${i} of seed ${SEED}`;
      const start = performance.now();
      const { ended, file } = await judge(kind, bytes, seen);
      let took = performance.now() - start;
      for (let again = 0; took > MOST_TIME && again < 5; again++) {
        const restart = performance.now(); // another process or the collector may have been at it: the fastest of six counts
        await judge(kind, bytes, seen);
        took = Math.min(took, performance.now() - restart);
      }
      if (took > MOST_TIME) throw new Error(`${seen}: took ${took} ms`);
      slowest = Math.max(slowest, took);
      ends[ended] = (ends[ended] ?? 0) + 1;
      if (!file) continue;
      const sink = memorySink();
      await kind.rewrite(file, sink);
      const ours = sink.bytes();
      const want = kind.normal(bytes);
      const differ = ours.length === want.bytes.length ? ours.findIndex((b, at) => b !== want.bytes[at] && !want.free.has(at)) : -2;
      if (differ !== -1) throw new Error(`${seen}: written again, byte ${differ} differs (${ours.length} and ${want.bytes.length} bytes)`);
    }
    const grown = process.resourceUsage().maxRSS * 1024 - before;
    if (process.env.LMQ_FUZZ_CASES) {
      const seconds = (performance.now() - begun) / 1000;
      console.log(`${name}: ${CASES} files in ${seconds.toFixed(1)} s, slowest ${slowest.toFixed(1)} ms, +${grown >> 20} MiB`, ends);
    }
    expect(grown).toBeLessThan(MOST_MEMORY);
    for (const end of ['read', ...OPENING]) expect(ends[end], end).toBeGreaterThan(CASES / 200); // the damage reaches all kinds of checks
  });

  it('makes valid files as well, in every version', async () => {
    const rng = createRng(SEED + 1);
    const versions = new Set<number>();
    const tensors: number[] = [];
    for (let i = 0; i < 300; i++) {
      const { file } = await judge(KINDS.GGUF!, hostileGguf(rng), `GGUF ${i}`);
      if (file) {
        versions.add((file as GgufFile).version);
        tensors.push(file.tensors.size);
      }
    }
    expect([...versions].sort()).toEqual([1, 2, 3]);
    expect(Math.max(...tensors)).toBeGreaterThan(2);
  });
});
