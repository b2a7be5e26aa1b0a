/**
 * How much each column of a matrix matters to its output: from an importance matrix of llama.cpp, or from our own statistics, whose
 * diagonals are the same sums of squares.
 * @module
 */
import { type Imatrix, type ImatrixEntry, importances } from '@lmq/checkpoints';
import { type Architecture, ggufTensorName, headSite, type Site } from '@lmq/model';
import { createPhase, type LongCallOpts } from '@lmq/tensor';
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

/** The importances of an importance matrix. @param file for messages */
export function importanceOf({ entries }: Imatrix, file?: string): Importance {
  return {
    of(name, shape) {
      const entry = entries.get(name);
      return entry && importances(name, entry, shape[shape.length - 1]!, shape.length > 2 ? shape[0]! : 1, file);
    },
  };
}

/** What the linears that share an input have read. */
export interface InputSquares {
  /** As `Site.input`. */
  input: string;
  tokens: number;
  sequences: number;
  /** Sums of squares by column. */
  squares(): Promise<Float32Array>;
}

/** The diagonals of saved statistics. One sum is in memory at a time. `squares` throws `file/format` for damaged ones. */
export function squaresOf(statistics: Statistics): InputSquares[] {
  return [...statistics.inputs].map(([input, { width, tokens, sequences }]) => ({
    input,
    tokens,
    sequences,
    async squares() {
      if (tokens === 0) return new Float32Array(width);
      const { data } = await statistics.of(input)!.hessian.read(); // 2 / sequences of the sum
      return Float32Array.from({ length: width }, (_, i) => (data[i * width + i]! * sequences) / 2);
    },
  }));
}

/**
 * An importance matrix for the GGUF file of a model. Matrices that read the same input get the same numbers; experts lie in their stack.
 * @param dataset what to call the text
 */
export async function imatrixOf(
  a: Architecture,
  inputs: readonly InputSquares[],
  dataset: string,
  opts: LongCallOpts = {},
): Promise<Imatrix> {
  const readers = new Map<string, Site[]>();
  for (const site of [...a.sites, ...(a.tied ? [] : [headSite(a)])]) {
    if (site.role !== 'router') readers.set(site.input, [...(readers.get(site.input) ?? []), site]);
  }
  const entries = new Map<string, ImatrixEntry>();
  const done = createPhase('importances', inputs.length, 'inputs', opts);
  let finished = 0;
  for (const { input, tokens, squares } of inputs) {
    const sums = await squares();
    for (const site of readers.get(input) ?? []) {
      const name = ggufTensorName(a, site);
      const runs = site.expert === undefined ? 1 : a.moe!.experts;
      const entry = entries.get(name) ?? { sums: new Float32Array(runs * sums.length), counts: new Float32Array(runs) };
      entry.sums.set(sums, (site.expert ?? 0) * sums.length);
      entry.counts[site.expert ?? 0] = tokens;
      entries.set(name, entry);
    }
    done(++finished, input);
  }
  const chunks = Math.max(0, ...inputs.map((i) => i.sequences));
  const tokens = Math.max(0, ...inputs.map((i) => i.tokens));
  return { entries, datasets: [dataset], chunks, chunkSize: Math.round(tokens / Math.max(chunks, 1)) };
}
