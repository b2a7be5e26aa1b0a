/**
 * GGUF files in several parts, as llama.cpp's gguf-split makes them: `<name>-00001-of-00003.gguf` … Each says which part it is
 * (`split.no`, from 0), of how many (`split.count`), and how many tensors all of them hold (`split.tensors.count`); the first has the
 * model's key-values.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { fail, missingTensor } from './_checks.js';
import type { ByteSource, GgufEntry, GgufFile, TensorInfo, TensorToWrite } from './api.js';
import { openGguf } from './gguf.js';
import { type GgufContents, ggufBytes } from './gguf-write.js';

const OP = 'openSplitGguf';
const MAX_PARTS = 10_000;
const NO = 'split.no';
const COUNT = 'split.count';
const TENSORS = 'split.tensors.count';

/** Name of part `index` (from 0) of `count`; `stem` is what comes before the number. */
export function ggufPartName(stem: string, index: number, count: number): string {
  const number = (n: number) => String(n).padStart(5, '0');
  return `${stem}-${number(index + 1)}-of-${number(count)}.gguf`;
}

interface Split {
  no: number;
  count: number;
  tensors: number;
}

function splitOf({ metadata, tensors }: GgufFile, file: string): Split | undefined {
  if (metadata.get(COUNT) === undefined) return undefined;
  const number = (key: string, least: number, most: number): number => {
    const value = metadata.get(key);
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
    return fail('file/format', `${key} cannot be used`, {
      op: OP,
      file,
      expected: `an integer in ${least} … ${most}`,
      found: value ?? 'nothing',
    });
  };
  const count = number(COUNT, 0, MAX_PARTS);
  if (count <= 1) return undefined; // gguf-split writes 0 where it has merged parts
  return { no: number(NO, 0, count - 1), count, tensors: number(TENSORS, tensors.size, 2 ** 31 - 1) };
}

/**
 * Opens a GGUF file, and where it is a part of a model the others too, as one checkpoint. The tensors of all parts, the key-values of the
 * first.
 * @param source any of the parts; closed by the result's `close`, and the caller's when this throws
 * @param openPart gives another part by its plain file name; throw `file/missing` for one that is not there
 * @throws LmqError `file/missing` naming the part, `file/format` for parts that do not belong together; as `openGguf`
 */
export async function openSplitGguf(source: ByteSource, openPart: (file: string) => Promise<ByteSource>): Promise<GgufFile> {
  const given = await openGguf(source);
  const split = splitOf(given, source.name);
  if (!split) return given;
  const place = /^https?:/i.test(source.name) ? source.name.replace(/[?#].*$/, '') : source.name;
  const plain = /[^/\\]*$/.exec(place)![0];
  const stem = /^(.+)-\d{5}-of-\d{5}\.gguf$/.exec(plain)?.[1];
  const here = stem !== undefined && plain === ggufPartName(stem, split.no, split.count);
  if (!here) {
    return fail('file/format', 'the file is a part of a model, and not named like it', {
      op: OP,
      file: source.name,
      expected: ggufPartName(stem ?? 'model', split.no, split.count),
      found: plain,
      hint: 'Give all parts the names that they were published with.',
    });
  }
  const parts: GgufFile[] = [];
  const opened: ByteSource[] = [];
  try {
    for (let i = 0; i < split.count; i++) {
      if (i === split.no) {
        parts.push(given);
        continue;
      }
      const name = ggufPartName(stem, i, split.count);
      const part = await openPart(name).catch((cause: unknown) => {
        if (cause instanceof LmqError && cause.code !== 'file/missing') throw cause;
        const hint = 'Download this part into the folder of the others; every part is needed.';
        throw new LmqError('file/missing', 'a part is missing', { op: OP, file: name, hint, cause });
      });
      opened.push(part);
      parts.push(checkPart(await openGguf(part), i, split, name));
    }
    return join(parts, split, source.name);
  } catch (e) {
    await Promise.allSettled(opened.map((part) => part.close())); // the first error is the one to tell
    throw e;
  }
}

function checkPart(part: GgufFile, index: number, { count, tensors }: Split, file: string): GgufFile {
  const own = splitOf(part, file);
  if (own?.no === index && own.count === count && own.tensors === tensors) return part;
  return fail('file/format', 'the parts do not belong together', {
    op: OP,
    file,
    expected: `part ${index + 1} of ${count}, ${tensors} tensors in all`,
    found: own ? `part ${own.no + 1} of ${own.count}, ${own.tensors} tensors in all` : 'a whole file',
    hint: 'Get all parts again, of the same model.',
  });
}

function join(parts: readonly GgufFile[], split: Split, file: string): GgufFile {
  const tensors = new Map<string, TensorInfo>();
  const home = new Map<string, GgufFile>();
  for (const part of parts) {
    for (const [name, info] of part.tensors) {
      if (home.has(name))
        fail('file/format', 'two parts hold one tensor', { op: OP, file: info.file, tensor: name, found: tensors.get(name)!.file });
      tensors.set(name, info);
      home.set(name, part);
    }
  }
  if (tensors.size !== split.tensors) {
    const hint = 'Get all parts again, of the same model.';
    fail('file/format', 'the parts do not hold all tensors', {
      op: OP,
      file,
      expected: `${split.tensors} tensors`,
      found: tensors.size,
      hint,
    });
  }
  const of = (name: string, op: string): GgufFile => home.get(name) ?? missingTensor(name, file, op);
  const { version, alignment, entries, metadata } = parts[0]!;
  return {
    format: 'gguf',
    version,
    alignment,
    entries,
    metadata,
    tensors,
    read: async (name) => of(name, 'read').read(name),
    readBytes: async (name, from, to) => of(name, 'readBytes').readBytes(name, from, to),
    readRows: async (name, from, to) => of(name, 'readRows').readRows(name, from, to),
    async close() {
      const ends = await Promise.allSettled(parts.map((part) => part.close())); // all of them, also when one fails
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    },
  };
}

/**
 * Contents of the parts of a model, tensors in their order. One part where everything fits.
 * @param limit tensor bytes in one part; a larger tensor gets a part of its own
 * @throws LmqError `argument/option` for a limit that gives too many parts; as `ggufBytes`
 */
export function splitGguf({ metadata, tensors }: GgufContents, limit: number): GgufContents[] {
  if (!(limit > 0))
    throw new LmqError('argument/option', 'the size of a part is out of range', {
      op: 'splitGguf',
      expected: 'more than 0 bytes',
      found: limit,
    });
  const groups: TensorToWrite[][] = [[]];
  let size = 0;
  for (const t of tensors) {
    const { bytes } = ggufBytes(t);
    if (size + bytes > limit && groups[groups.length - 1]!.length > 0) {
      groups.push([]);
      size = 0;
    }
    groups[groups.length - 1]!.push(t);
    size += bytes;
  }
  if (groups.length === 1) return [{ metadata, tensors }];
  if (groups.length > MAX_PARTS) {
    throw new LmqError('argument/option', 'there would be too many parts', {
      op: 'splitGguf',
      expected: `at most ${MAX_PARTS}`,
      found: groups.length,
      hint: 'Allow larger parts.',
    });
  }
  const alignment = metadata.filter((e) => e.key === 'general.alignment');
  return groups.map((own, no) => {
    const split: GgufEntry[] = [
      { key: NO, type: 'u16', value: no },
      { key: COUNT, type: 'u16', value: groups.length },
      { key: TENSORS, type: 'i32', value: tensors.length },
    ];
    return { metadata: [...(no === 0 ? metadata : alignment), ...split], tensors: own };
  });
}
