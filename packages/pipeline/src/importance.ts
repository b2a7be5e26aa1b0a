/**
 * How much each column of a matrix matters to its output: from an importance matrix of llama.cpp, or from our own statistics, whose
 * diagonals are the same sums of squares.
 * @module
 */
import { type Imatrix, type ImatrixEntry, importances } from '@lmq/checkpoints';
import { type Architecture, ggufTensorName, headSite, type Site } from '@lmq/model';
import type { LongCallOpts } from '@lmq/tensor';
import { createPhase } from '@lmq/tensor';
import type { Statistics } from './statistics.js';

/** Importances of a model's GGUF tensors. */
export interface Importance {
  /**
   * Mean squares by column, one run per expert of a stack; undefined where there are none.
   * @param name of the GGUF tensor
   * @param shape slowest axis first
   * @throws LmqError `argument/value` when they are of another model
   */
  of(name: string, shape: readonly number[]): Float32Array | undefined;
}

/** The importances of an importance matrix. */
export function importanceOf({ entries }: Imatrix): Importance {
  return {
    of(name, shape) {
      const entry = entries.get(name);
      return entry && importances(name, entry, shape[shape.length - 1]!, shape.length > 2 ? shape[0]! : 1);
    },
  };
}

/**
 * An importance matrix of saved statistics: the diagonals of their sums. One sum is in memory at a time.
 * @param dataset what to call the text
 * @throws LmqError `file/format` for damaged statistics
 */
export async function statisticsImatrix(
  statistics: Statistics,
  a: Architecture,
  dataset: string,
  opts: LongCallOpts = {},
): Promise<Imatrix> {
  const readers = new Map<string, Site[]>();
  for (const site of [...a.sites, ...(a.tied ? [] : [headSite(a)])]) {
    if (site.role !== 'router' && statistics.inputs.has(site.input)) readers.set(site.input, [...(readers.get(site.input) ?? []), site]);
  }
  const entries = new Map<string, ImatrixEntry>();
  const done = createPhase('importances', readers.size, 'inputs', opts);
  let finished = 0;
  for (const [input, sites] of readers) {
    const { width, tokens, sequences } = statistics.inputs.get(input)!;
    const h = tokens ? (await statistics.of(input)!.hessian.read()).data : undefined; // 2 / sequences of the sum
    const squares = Float32Array.from({ length: width }, (_, i) => (h ? (h[i * width + i]! * sequences) / 2 : 0));
    for (const site of sites) {
      const name = ggufTensorName(a, site);
      const runs = site.expert === undefined ? 1 : a.moe!.experts;
      const entry = entries.get(name) ?? { sums: new Float32Array(runs * width), counts: new Float32Array(runs) };
      entry.sums.set(squares, (site.expert ?? 0) * width);
      entry.counts[site.expert ?? 0] = tokens;
      entries.set(name, entry);
    }
    done(++finished, input);
  }
  const most = Math.max(0, ...[...statistics.inputs.values()].map((i) => i.sequences));
  return { entries, datasets: [dataset], chunks: most };
}
