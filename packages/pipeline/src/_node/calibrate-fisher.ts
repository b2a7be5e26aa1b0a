/**
 * Fisher information in a working folder, a block at a time, and from there in a file.
 * @module
 */
import { writeSafetensors } from '@lmq/checkpoints';
import { type PlaceOpts, writeFileAtomic } from '@lmq/checkpoints/node';
import { fisherMetadata, fisherTensors } from '../fisher.js';
import { type FisherBlocksOpts, fisherBlocks } from '../fisher-blocks.js';
import type { StatisticsOrigin } from '../statistics.js';
import { passOf, type WorkFolder } from './work-folder.js';

/** What the working folder says of a block: linears whose sums are all 0. */
export interface FisherFacts {
  unreached: string[];
}

/** Collects the sums that `work` has not yet, and writes them all to `output`. */
export async function collectInFolder(
  work: WorkFolder<FisherFacts>,
  output: string,
  opts: Omit<FisherBlocksOpts, 'store' | 'resume'> & { origin: StatisticsOrigin; place: PlaceOpts },
): Promise<{ inputs: number; bytes: number; resumedBlocks: number; unreached: string[] }> {
  const { architecture, calibration = [], origin, place } = opts;
  const resumedBlocks = work.finished.length;
  const pass = passOf(work, 0, architecture.layers + 1);
  const resume = pass.resumeFisher(calibration.map((w) => w.length * architecture.hidden));
  for await (const { layer, sums } of fisherBlocks({ ...opts, store: pass.store, resume })) {
    const unreached = [...sums].flatMap(([name, { data }]) => (data.every((v) => v === 0) ? name : []));
    await work.commit(layer, fisherTensors(sums), { unreached });
  }
  const blocks = [...work.finished].sort((a, b) => a.layer - b.layer);
  const tensors = blocks.flatMap(({ file }) =>
    Array.from(file.tensors.values(), ({ name, shape }) => ({ name, shape, dtype: 'F32', bytes: () => file.readBytes(name) })),
  );
  const metadata = fisherMetadata(origin, { sequences: calibration.length, tokens: calibration.reduce((n, w) => n + w.length, 0) });
  let bytes = 0;
  const write = { ...place, beforeRename: work.placing };
  await writeFileAtomic(output, async (sink) => (bytes = await writeSafetensors(sink, tensors, metadata)), write);
  return { inputs: tensors.length, bytes, resumedBlocks, unreached: blocks.flatMap((b) => b.facts.unreached) };
}
