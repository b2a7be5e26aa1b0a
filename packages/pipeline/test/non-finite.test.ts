// Weights that are NaN or infinite: refused before any work, or reported and passed on, or zero.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NonFiniteFound, NonFinitePolicy } from '@lmq/checkpoints';
import { openCheckpoint } from '@lmq/checkpoints/node';
import { decode } from '@lmq/formats';
import { NANO_MODELS } from '@lmq/nano';
import { isLmqError } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrateModel, openStatisticsFile } from '../src/_node/calibrate-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { overlay, stack } from '../src/overlay.js';
import { parseRecipe } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-nan-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
let nano: Awaited<ReturnType<typeof openNano>>;
beforeAll(async () => {
  nano = await openNano();
});

const EMBEDDING = 'model.embed_tokens.weight';
const LINEAR = 'model.layers.3.mlp.up_proj.weight';

/** lmq-nano with a NaN in the first number of each of these tensors. */
function damaged(name: string, ...tensors: string[]): string {
  const to = join(dir, name);
  cpSync(fileURLToPath(NANO_MODELS['lmq-nano'].folder), to, { recursive: true });
  const path = join(to, 'model.safetensors');
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  for (const t of tensors) bytes.writeUInt16LE(0x7fc0, 8 + length + header[t].data_offsets[0]);
  writeFileSync(path, bytes);
  return to;
}

async function quantize(path: string, output: string, nonFinite: NonFinitePolicy | undefined, stage: object = { method: 'rtn' }) {
  const found: NonFiniteFound[] = [];
  const model = await openModel(path);
  try {
    const recipe = parseRecipe({ stages: [stage] });
    const opts = { backend: nano.backend, recipe, output: join(dir, output), nonFinite, calibration: windows.slice(0, 2) };
    const problem = await quantizeModel(model, { ...opts, onNonFinite: (f) => found.push(f) }).then(
      () => undefined,
      (e) => (isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e)),
    );
    return { problem, found };
  } finally {
    await model.close();
  }
}

async function first(folder: string, tensor: string): Promise<number> {
  const checkpoint = await openCheckpoint(join(dir, folder));
  const { data } = decode(await checkpoint.read(tensor));
  await checkpoint.close();
  return data[0]!;
}

describe('quantizeModel', () => {
  it('refuses them wherever they are, before any work', async () => {
    for (const tensor of [EMBEDDING, LINEAR]) {
      const model = damaged(`refused-${tensor}`, tensor);
      const before = readdirSync(dir);
      const { problem } = await quantize(model, 'refused-out', undefined);
      expect(problem).toContain('argument/value');
      expect(problem).toContain(tensor);
      expect(readdirSync(dir)).toEqual(before);
    }
  });

  it('zero: zeros stand for them, in what is quantized and in what is copied', async () => {
    const model = damaged('zeroed', EMBEDDING, LINEAR);
    const { problem, found } = await quantize(model, 'zero-out', 'zero', { method: 'gptq', bits: 8 });
    expect(problem).toBeUndefined();
    expect(found.map((f) => [f.tensor, f.count]).sort()).toEqual([
      [EMBEDDING, 1],
      [LINEAR, 1],
    ]);
    expect(await first('zero-out', EMBEDDING)).toBe(0);
    expect(Math.abs(await first('zero-out', LINEAR))).toBeLessThan(0.01);
  });

  it('warn: copies them as they are, but does not quantize them', async () => {
    const { problem, found } = await quantize(damaged('warned', EMBEDDING), 'warn-out', 'warn');
    expect(problem).toBeUndefined();
    expect(found.map((f) => f.tensor)).toEqual([EMBEDDING]);
    expect(await first('warn-out', EMBEDDING)).toBeNaN();
    const refused = await quantize(damaged('warned-linear', LINEAR), 'warn-linear-out', 'warn');
    expect(refused.problem).toContain('argument/value');
    expect(refused.found.map((f) => f.tensor)).toEqual([LINEAR]);
  });

  it('unfinished work under one policy is not gone on with under another', async () => {
    const model = await openModel('lmq-nano');
    const stop = new AbortController();
    const run = (nonFinite: NonFinitePolicy, signal?: AbortSignal) =>
      quantizeModel(model, {
        backend: nano.backend,
        recipe: parseRecipe({ stages: [{ method: 'gptq' }] }),
        output: join(dir, 'unfinished'),
        calibration: windows.slice(0, 2),
        nonFinite,
        signal,
        onProgress: (e) => e.phase === 'calibrate block 1' && stop.abort(),
      });
    await expect(run('zero', stop.signal)).rejects.toMatchObject({ name: 'AbortError' });
    await expect(run('error')).rejects.toThrow(/for another policy for NaN and infinity.*--restart/);
    expect((await run('zero')).resumedBlocks).toBe(1);
    await model.close();
  });
});

describe('calibrateModel', () => {
  it('refuses them before any work, or calibrates with zeros in their place, for the model as it is stored', async () => {
    const path = damaged('calibrated', LINEAR);
    const model = await openModel(path);
    const before = readdirSync(dir);
    const opts = { backend: nano.backend, calibration: windows.slice(0, 2), output: join(dir, 'statistics') };
    const phases = new Set<string>();
    await expect(calibrateModel(model, { ...opts, onProgress: (e) => phases.add(e.phase) })).rejects.toThrow(LINEAR);
    expect(phases).toEqual(new Set(['look for NaN']));
    expect(readdirSync(dir)).toEqual(before);
    const found: NonFiniteFound[] = [];
    await calibrateModel(model, { ...opts, nonFinite: 'zero', onNonFinite: (f) => found.push(f) });
    expect(found).toEqual([{ tensor: LINEAR, file: join(path, 'model.safetensors'), count: 1 }]);
    const statistics = await openStatisticsFile(opts.output, model);
    const sum = await statistics.of('layers.3.down')!.hessian.read(); // what up_proj of the last block goes into
    expect(sum.data.every(Number.isFinite)).toBe(true);
    await statistics.close();
    await model.close();
  });
});

describe('overlay and stack', () => {
  it('pass the policy of their base on', () => {
    const guarded = { ...nano.checkpoint, nonFinite: 'zero' as const };
    expect(overlay(guarded, new Map()).nonFinite).toBe('zero');
    expect(stack(guarded, []).nonFinite).toBe('zero');
    expect(overlay(nano.checkpoint, new Map())).not.toHaveProperty('nonFinite');
  });
});
