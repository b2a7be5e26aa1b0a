/**
 * Writing importance matrices as llama.cpp reads them; see `imatrix.ts` for the two containers.
 * @module
 */
import { createByteWriter } from './_byte-writer.js';
import { bytesOf } from './_floats.js';
import type { ByteSink } from './api.js';
import { writeGguf } from './gguf-write.js';
import { type Imatrix, importances } from './imatrix.js';

/** Entries by name: the order that llama.cpp writes. */
const sorted = ({ entries }: Imatrix) => [...entries].sort(([a], [b]) => (a < b ? -1 : 1));

/** The GGUF container. @returns bytes written */
export function writeImatrix(sink: ByteSink, imatrix: Imatrix): Promise<number> {
  const { datasets, chunks, chunkSize } = imatrix;
  return writeGguf(sink, {
    metadata: [
      { key: 'general.type', type: 'string', value: 'imatrix' },
      { key: 'imatrix.datasets', type: 'string[]', value: datasets },
      { key: 'imatrix.chunk_count', type: 'u32', value: chunks ?? 0 },
      { key: 'imatrix.chunk_size', type: 'u32', value: chunkSize ?? 0 },
    ],
    tensors: sorted(imatrix).flatMap(([name, { sums, counts }]) => {
      const runs = counts.length;
      return [
        { name: `${name}.in_sum2`, shape: [runs, sums.length / runs], dtype: 'F32', bytes: () => bytesOf(sums) },
        { name: `${name}.counts`, shape: [runs, 1], dtype: 'F32', bytes: () => bytesOf(counts) },
      ];
    }),
  });
}

/** The ".dat" of older versions, which holds means; runs that no token reached become 1. @returns bytes written */
export async function writeLegacyImatrix(sink: ByteSink, imatrix: Imatrix): Promise<number> {
  const { entries, datasets, chunks = 1 } = imatrix;
  const calls = Math.max(chunks, 1);
  const w = createByteWriter();
  const text = (s: string) => {
    const bytes = new TextEncoder().encode(s);
    w.integer(BigInt(bytes.length), 4);
    w.raw(bytes);
  };
  w.integer(BigInt(entries.size), 4);
  for (const [name, entry] of sorted(imatrix)) {
    const runs = entry.counts.length;
    const means = importances(name, entry, entry.sums.length / runs, runs);
    text(name);
    w.integer(BigInt(calls), 4);
    w.integer(BigInt(means.length), 4);
    w.raw(bytesOf(means.map((mean) => mean * calls)));
  }
  w.integer(BigInt(chunks), 4);
  text(datasets[datasets.length - 1] ?? '');
  const bytes = w.bytes();
  await sink.write(bytes);
  return bytes.length;
}
