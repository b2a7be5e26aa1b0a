/**
 * How fast blocks are made here and now, for estimates.
 * @module
 */
import { decode } from '@lmq/formats';
import { createBlockEncoder } from '@lmq/kernels-wasm/encode-blocks';
import { type BlockType, createRng, matrix } from '@lmq/tensor';

/**
 * Weights per second by type, decoding them again for the report included.
 * @param now a clock in milliseconds
 */
export async function measureBlockRates(
  types: ReadonlySet<BlockType>,
  importance: boolean,
  now: () => number,
): Promise<Map<BlockType, number>> {
  const [rows, columns] = [32, 1024];
  const rng = createRng(3);
  const weights = matrix(
    Float32Array.from({ length: rows * columns }, () => rng.normal()),
    rows,
    columns,
  );
  const opts = importance ? { importance: Float32Array.from({ length: columns }, () => 1 + rng.below(8)) } : {};
  const encoder = await createBlockEncoder();
  const rates = new Map<BlockType, number>();
  for (const type of types) {
    const runs: number[] = [];
    const end = now() + 100;
    do {
      const from = now();
      decode(encoder.encodeBlocks(type, weights, opts));
      runs.push((now() - from) / 1000);
    } while (now() < end || runs.length < 3);
    runs.sort((a, b) => a - b);
    rates.set(type, (rows * columns) / Math.max(runs[runs.length >> 1]!, 1e-6));
  }
  return rates;
}
