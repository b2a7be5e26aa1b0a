/**
 * One pass of the calibration windows through a float block: what equalization needs to know of it.
 * @module
 */
import { attentionForward, type Block, mlpForward, siteShape } from '@lmq/model';
import { type ChannelObserver, createChannelObserver, createHessian, type Hessian } from '@lmq/quant-core';
import { type Handle, type Matrix, matrix } from '@lmq/tensor';
import type { WindowRun } from '../_windows.js';
import type { HalfStreams } from './half-error.js';

/** Tokens that a search of alpha looks at. */
const SAMPLE = 512;

export interface BlockStatistics {
  /** By `Site.input`. */
  channels: ReadonlyMap<string, ChannelObserver>;
  hessians: ReadonlyMap<string, Hessian>;
  /** Evenly spaced tokens. */
  samples: ReadonlyMap<string, Matrix>;
  dispose(): void;
}

export interface WantedStatistics {
  channels: ReadonlySet<string>;
  hessians: ReadonlySet<string>;
  samples: ReadonlySet<string>;
}

/** Fills and finishes `attention` and `outputs`. */
export async function observeBlock(run: WindowRun, block: Block, wanted: WantedStatistics, streams: HalfStreams): Promise<BlockStatistics> {
  const { architecture } = run.context;
  const widths = new Map([...block.linears.values()].map(({ site }) => [site.input, siteShape(architecture, site)[1]]));
  const channels = new Map([...wanted.channels].map((input) => [input, createChannelObserver(widths.get(input)!)]));
  const hessians = new Map<string, Hessian>();
  const rows = new Map([...wanted.samples].map((input) => [input, [] as Float32Array[]]));
  const stride = Math.max(1, Math.floor(run.tokens / SAMPLE));
  let seen = 0;
  const dispose = () => {
    for (const h of hessians.values()) h.dispose();
  };
  try {
    for (const input of wanted.hessians) hessians.set(input, createHessian(block.backend, widths.get(input)!));
    await run.eachWindow(`look at block ${block.layer}`, async (s, i) => {
      const copies: [string, Handle][] = [];
      const tap = (input: string, x: Handle) => {
        hessians.get(input)?.add(x);
        if (channels.has(input) || rows.has(input)) copies.push([input, s.copy(x)]);
      };
      const h = await attentionForward(s, block, await run.upload(s, streams.inputs, i), { ...run.context, tap });
      const y = await mlpForward(s, block, h, { ...run.context, tap });
      await streams.attention.put(i, (await s.read(h)).data);
      await streams.outputs.put(i, (await s.read(y)).data);
      for (const [input, copy] of copies) {
        const x = await s.read(copy);
        channels.get(input)?.add(x);
        const own = rows.get(input);
        for (let t = (stride - (seen % stride)) % stride; own && t < copy.rows; t += stride) {
          own.push(x.data.slice(t * copy.cols, (t + 1) * copy.cols));
        }
      }
      seen += run.windows[i]!.length;
    });
    await run.finish(streams.attention);
    await run.finish(streams.outputs);
  } catch (e) {
    dispose();
    throw e;
  }
  return { channels, hessians, samples: new Map([...rows].map(([input, own]) => [input, stacked(own, widths.get(input)!)])), dispose };
}

function stacked(rows: readonly Float32Array[], width: number): Matrix {
  const data = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) data.set(row, i * width);
  return matrix(data, rows.length, width);
}
