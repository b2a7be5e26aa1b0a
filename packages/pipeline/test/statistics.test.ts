// Saved statistics: what they give is what quantizing with Hessians collected in one pass of the original model gives, and a file that does
// not belong to the model, or is no such file, is refused by name.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memorySink, memorySource, openSafetensors, type TensorToWrite, writeSafetensors } from '@lmq/checkpoints';
import { gptqLinear } from '@lmq/gptq';
import { loadModel } from '@lmq/model';
import { createHessian, type Hessian } from '@lmq/quant-core';
import { type CompressedTensor, isLmqError, type ProgressEvent } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrateModel, openStatisticsFile } from '../src/_node/calibrate-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { calibratedInputs } from '../src/calibrate-blocks.js';
import { quantizeBlocks } from '../src/quantize-blocks.js';
import { parseRecipe } from '../src/recipe.js';
import { openStatistics } from '../src/statistics.js';
import { openNano, windows } from './_nano.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-statistics-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const file = join(dir, 'stats.safetensors');
const few = windows.slice(0, 3);
const problem = (p: Promise<unknown>) =>
  p.then(() => 'nothing was thrown').catch((e) => (isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e)));

let nano: Awaited<ReturnType<typeof openNano>>;
beforeAll(async () => {
  nano = await openNano();
});

/** Codes, scales and zero points of a weight, for comparison byte for byte. */
function bytesOf(t: CompressedTensor) {
  if (t.kind !== 'affine') throw new Error(t.kind);
  return { ...t, codes: Buffer.from(t.codes).toString('hex') };
}

describe('lmq-nano', () => {
  it('saves every linear input, counts tokens, and leaves nothing else behind', async () => {
    const report = await calibrateModel(nano, { backend: nano.backend, calibration: few, output: file });
    expect(report).toMatchObject({ inputs: 16, tokens: 3 * 512, unreached: [], resumedBlocks: 0, bytes: readFileSync(file).length });
    expect(readdirSync(dir)).toEqual(['stats.safetensors']);
    const statistics = await openStatisticsFile(file, nano);
    expect([...statistics.inputs.keys()].sort()).toEqual([...calibratedInputs(nano.architecture).keys()].sort());
    expect(statistics.inputs.get('layers.3.down')).toEqual({
      width: 640,
      tokens: 3 * 512,
      sequences: 3,
      share: expect.closeTo(0.44, 1), // of the residual stream, as measured by hand
    });
    await statistics.close();
    expect(await problem(calibrateModel(nano, { backend: nano.backend, calibration: few, output: file }))).toContain('file/exists');
  });

  it('two runs at different bits use one file, and give the bytes of each linear with the Hessian of one pass', async () => {
    // one pass of the whole original model, not block by block
    const hessians = new Map<string, Hessian>();
    for (const [input, { width }] of calibratedInputs(nano.architecture)) hessians.set(input, createHessian(nano.backend, width));
    const model = await loadModel({ ...nano, backend: nano.backend });
    for (const ids of few) {
      const s = nano.backend.scope();
      await model.hidden(s, ids, { tap: (input, x) => hessians.get(input)?.add(x) });
      await s.flush();
      s.dispose();
    }
    model.dispose();

    const statistics = await openStatisticsFile(file, nano);
    for (const bits of [4, 2]) {
      const recipe = parseRecipe({ stages: [{ method: 'gptq', bits, groupSize: 64, actOrder: true }] });
      let compared = 0;
      for await (const block of quantizeBlocks({ ...nano, recipe, statistics })) {
        for (const site of nano.architecture.sites.filter((s) => s.layer === block.layer)) {
          const linear = { weight: await nano.checkpoint.read(site.tensor) };
          const hessian = await hessians.get(site.input)!.read();
          const { linear: wanted, report } = await gptqLinear(
            linear,
            { hessian },
            { ...recipe.stages[0]!, preset: 'gptq', gptaq: undefined, foem: undefined, backend: nano.backend },
          );
          expect(bytesOf(block.weights.get(site.tensor)!)).toEqual(bytesOf(wanted.weight));
          expect(block.layers.find((l) => l.name === site.name)).toMatchObject({
            loss: report.loss,
            error: report.proxyLoss,
            tokens: 3 * 512,
          });
          compared++;
        }
      }
      expect(compared).toBe(28);
    }
    await statistics.close();
    for (const h of hessians.values()) h.dispose();
  });

  it('quantizeModel takes them, and unfinished work remembers which', async () => {
    const statistics = await openStatisticsFile(file, nano);
    const recipe = parseRecipe({ stages: [{ method: 'gptq', bits: 3, groupSize: 128 }] });
    const output = join(dir, 'q3');
    const stop = new AbortController();
    const opts = { backend: nano.backend, recipe, output, statistics };
    const stopped = {
      ...opts,
      signal: stop.signal,
      onProgress: (e: ProgressEvent) => e.phase === 'quantize' && e.done === 15 && stop.abort(),
    };
    await expect(quantizeModel(nano, stopped)).rejects.toThrow();
    expect(await problem(quantizeModel(nano, { ...opts, statistics: undefined, calibration: few }))).toMatch(
      /for another (statistics|calibration text)/,
    );
    const report = await quantizeModel(nano, opts);
    expect(report.resumedBlocks).toBe(2);
    expect(report.layers).toHaveLength(28);
    await statistics.close();
  });
});

describe('mixture of experts', () => {
  it('keeps a sum for each expert, of the tokens that it got', async () => {
    const moe = await openModel('lmq-nano-moe');
    const output = join(dir, 'moe.safetensors');
    const report = await calibrateModel(moe, { backend: nano.backend, calibration: few, output });
    const { layers, moe: experts } = moe.architecture;
    expect(report.inputs).toBe(layers * (2 + 2 * experts!.experts) + 1); // the head's
    const statistics = await openStatisticsFile(output, moe);
    const tokens = Array.from({ length: experts!.experts }, (_, e) => statistics.inputs.get(`layers.0.experts.${e}.mlp`)!.tokens);
    expect(tokens.reduce((a, b) => a + b, 0)).toBe(3 * 512 * experts!.topK);
    expect(await problem(openStatisticsFile(output, nano))).toMatch(/argument\/value.*of another architecture.*llama.*mixtral/);
    await statistics.close();
    await moe.close();
  });
});

describe('refused by name', () => {
  type Change = (tensors: TensorToWrite[], metadata: Record<string, string>) => void;
  /** The statistics of lmq-nano, changed. */
  async function changed(change: Change) {
    const source = memorySource(readFileSync(file), 'stats.safetensors');
    const saved = await openSafetensors(source);
    const tensors: TensorToWrite[] = [];
    for (const t of saved.tensors.values()) {
      const bytes = await saved.readBytes(t.name);
      tensors.push({ name: t.name, shape: [...t.shape], dtype: 'F32', bytes: () => bytes });
    }
    const metadata = Object.fromEntries(saved.metadata) as Record<string, string>;
    change(tensors, metadata);
    const sink = memorySink();
    await writeSafetensors(sink, tensors, metadata);
    return sink.bytes();
  }
  const opened = async (change: Change) => openStatistics(memorySource(await changed(change), 'stats.safetensors'));
  const quantize = async (change: Change, stage = {}) => {
    const statistics = await opened(change);
    const recipe = parseRecipe({ stages: [{ method: 'gptq', ...stage }] });
    for await (const _ of quantizeBlocks({ ...nano, recipe, statistics }));
  };
  const drop =
    (name: string): Change =>
    (tensors) =>
      void tensors.splice(
        tensors.findIndex((t) => t.name === name),
        1,
      );
  const poke =
    (name: string, at: number, value: number): Change =>
    (tensors) => {
      const own = tensors.find((t) => t.name === name)!;
      const bytes = own.bytes() as Uint8Array;
      new DataView(bytes.buffer, bytes.byteOffset).setFloat32(4 * at, value, true);
    };

  it('the file unchanged is good', async () => {
    expect(await problem(quantize(() => {}))).toBe('nothing was thrown');
  });
  it.each<[string, Change, RegExp]>([
    [
      'no metadata',
      (_, m) => {
        delete m['lmq.statistics'];
      },
      /file\/format.*no statistics of lmq.*lmq\.statistics/,
    ],
    [
      'another version',
      (_, m) => {
        m['lmq.statistics'] = '2';
      },
      /file\/format.*another version/,
    ],
    [
      'no token count',
      (_, m) => {
        delete m['layers.1.o.tokens'];
      },
      /file\/format.*layers\.1\.o\.tokens/,
    ],
    [
      'a count that is none',
      (_, m) => {
        m['layers.1.o.tokens'] = '1e3';
      },
      /file\/format.*count is not a number.*layers\.1\.o\.tokens.*1e3/,
    ],
    [
      'more sequences than tokens',
      (_, m) => {
        m['layers.1.o.sequences'] = '99999';
      },
      /file\/format.*contradict.*layers\.1\.o/,
    ],
    [
      'tokens in no sequence',
      (_, m) => {
        m['layers.1.o.sequences'] = '0';
      },
      /file\/format.*contradict.*layers\.1\.o/,
    ],
    [
      'more reached than there are',
      (_, m) => {
        m['layers.1.o.reached'] = '99999';
      },
      /file\/format.*contradict.*layers\.1\.o.*99999 of/,
    ],
    [
      'a matrix that is not square',
      (t) => {
        t[0]!.shape = [t[0]!.shape[0]! / 2, t[0]!.shape[0]! * 2];
      },
      /file\/format.*square/,
    ],
    [
      'another dtype',
      (t) => {
        t[0]!.dtype = 'I32';
      },
      /file\/format.*I32/,
    ],
  ])('%s', async (_, change, wanted) => {
    expect(await problem(opened(change))).toMatch(wanted);
  });
  it.each<[string, Change, RegExp]>([
    ['an input that is missing', drop('layers.2.mlp'), /argument\/value.*of another model.*layers\.2\.mlp.*no such input/],
    ['NaN', poke('layers.0.qkv', 5, Number.NaN), /file\/format.*layers\.0\.qkv.*NaN/],
    ['infinity', poke('layers.0.qkv', 0, Number.POSITIVE_INFINITY), /file\/format.*layers\.0\.qkv.*Infinity/],
    ['a negative square', poke('layers.0.o', 257, -1), /file\/format.*layers\.0\.o.*-1 at \[1, 1\]/],
    ['one side of the diagonal', poke('layers.0.o', 1, 1e9), /file\/format.*layers\.0\.o.*differ/],
    [
      'another width',
      (t) => {
        const own = t.find((x) => x.name === 'layers.3.down')!;
        const small = (own.bytes() as Uint8Array).slice(0, 64 * 64 * 4);
        Object.assign(own, { shape: [64, 64], bytes: () => small });
      },
      /argument\/value.*of another model.*layers\.3\.down.*640 columns.*64 columns/,
    ],
  ])('%s', async (_, change, wanted) => {
    expect(await problem(quantize(change))).toMatch(wanted);
  });
  it.each([{ trueSequential: true }, { gptaq: true }])('%o', async (stage) => {
    expect(await problem(quantize(() => {}, stage))).toMatch(
      new RegExp(`argument/option.*${Object.keys(stage)} and saved statistics exclude each other`),
    );
  });
  it('another model of the same architecture', async () => {
    const other = { ...nano, checkpoint: { ...nano.checkpoint, readBytes: async () => new Uint8Array(16) } };
    expect(await problem(openStatisticsFile(file, other))).toMatch(/argument\/value.*of another model/);
  });
  it('a file that is cut', async () => {
    const cut = join(dir, 'cut.safetensors');
    writeFileSync(cut, readFileSync(file).subarray(0, 5000));
    expect(await problem(openStatisticsFile(cut, nano))).toMatch(/file\/truncated/);
  });
  it('a model file', async () => {
    const weights = [...nano.checkpoint.tensors.values()][0]!.file;
    expect(await problem(openStatisticsFile(weights, nano))).toMatch(/file\/format.*no statistics of lmq/);
  });
});
