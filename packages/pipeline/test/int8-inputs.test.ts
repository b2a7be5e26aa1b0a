// W8A8 and LLM.int8() on lmq-nano beside the reference rows (mit-han-lab/smoothquant executed; LLM.int8() restated). All rows:
// docs/baselines.md.
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ActivationRangeMethod } from '@lmq/quant-core';
import type { InputQuant, LmqError } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convertModel } from '../src/_node/convert-model.js';
import { estimateModel } from '../src/_node/estimate-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import type { InputName, InputSpec } from '../src/input-quant.js';
import { quantizeBlocks } from '../src/quantize-blocks.js';
import { parseRecipe } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

const file = new URL('../../../../shared/golden/nano-baselines.json', import.meta.url);
const found = existsSync(file);
if (!found) console.warn('skipped: ../shared/golden/nano-baselines.json is absent');

interface Row {
  method: string;
  settings: { act?: string; threshold?: number | null; outlier_column_fraction?: number };
  ppl: number;
}
const rows: Row[] = found ? JSON.parse(readFileSync(file, 'utf8')).rows : [];
const stage = (input: InputName | InputSpec) => ({
  method: 'rtn',
  bits: 8,
  symmetric: true,
  preset: 'smoothquant',
  scaleFormat: 'fp32',
  input,
});
const near = (ppl: number, row: Row | undefined) => expect(Math.abs(ppl / row!.ppl - 1)).toBeLessThan(0.002);

let nano: Awaited<ReturnType<typeof openNano>>;
beforeAll(async () => {
  nano = await openNano();
});
afterAll(() => nano.close());

describe.skipIf(!found)('lmq-nano with quantized inputs, beside the reference code', () => {
  it('naive W8A8, per token', async () => {
    const { perplexity } = await nano.measure(await nano.quantize({ stages: [stage('int8-token')] }));
    near(
      perplexity,
      rows.find((r) => r.method === 'naive W8A8' && r.settings.act?.startsWith('per_token')),
    );
  });

  it('LLM.int8(), and its share of outlier columns', async () => {
    const row = rows.find((r) => r.method === 'LLM.int8()' && r.settings.threshold === 6);
    const { perplexity, outliers } = await nano.measure(await nano.quantize({ stages: [stage('llm-int8')] }));
    near(perplexity, row);
    expect(Math.abs(outliers! - row!.settings.outlier_column_fraction!)).toBeLessThan(0.001);
  });
});

it('static ranges come from calibration, one for each input of a block', async () => {
  const few = windows.slice(0, 3).map((w) => w.slice(0, 64));
  const scaleOf = async (range: ActivationRangeMethod) => {
    const { inputs, layers } = await nano.quantize({ stages: [stage({ kind: 'int8', symmetric: false, range })] }, few);
    const quants = [...inputs.values()] as Extract<InputQuant, { kind: 'int8' }>[];
    expect(quants).toHaveLength(28);
    expect(layers.map((l) => l.input)).toEqual(quants);
    for (const q of quants) expect(q).toMatchObject({ per: 'tensor', symmetric: false, static: { zeroPoint: expect.any(Number) } });
    const of = (name: string) => inputs.get(`model.layers.1.self_attn.${name}_proj.weight`) as (typeof quants)[0];
    expect(of('k')).toEqual(of('q')); // q, k and v read one input
    expect(of('o')).not.toEqual(of('q'));
    return of('q').static!.scale;
  };
  const widest = await scaleOf('minmax');
  for (const range of ['percentile', 'mse'] as const) expect(await scaleOf(range)).toBeLessThanOrEqual(widest);
});

it('experts that no token reaches have no range: their scale is found at run time, and reports say so', async () => {
  const moe = await openModel('lmq-nano-moe');
  const recipe = parseRecipe({ stages: [stage('int8-static')] });
  let unreached = 0;
  for await (const { layers } of quantizeBlocks({ ...moe, backend: nano.backend, recipe, calibration: [windows[0]!.slice(0, 6)] })) {
    for (const { input, fallback } of layers) {
      const fixed = input?.kind === 'int8' && input.static !== undefined;
      expect(fallback).toEqual(fixed ? undefined : expect.stringContaining('found at run time'));
      if (!fixed) unreached++;
    }
  }
  expect(unreached).toBeGreaterThan(0);
  await moe.close();
});

it('an lmq folder keeps how inputs are quantized, and runs so', async () => {
  const recipe = parseRecipe({ stages: [stage({ kind: 'llm-int8', threshold: 3 })] });
  const dir = await mkdtemp(join(tmpdir(), 'lmq-int8-'));
  try {
    const output = join(dir, 'out');
    const { layers } = await quantizeModel(nano, { backend: nano.backend, recipe, output });
    expect(layers[0]!.input).toEqual({ kind: 'llm-int8', threshold: 3 });
    const opened = await openModel(output);
    expect([...opened.checkpoint.inputs!.values()]).toEqual(Array(28).fill({ kind: 'llm-int8', threshold: 3 }));
    expect(await nano.measure({ weights: new Map() }, 1, opened.checkpoint)).toEqual(await nano.measure(await nano.quantize(recipe), 1));
    const notes = (await convertModel(opened, { export: 'gguf:f32', output: join(dir, 'out.gguf'), dryRun: true })).notes;
    expect(notes.join()).toMatch(/inputs of 28 linears/);
    await opened.close();
  } finally {
    await rm(dir, { recursive: true });
  }
});

it.each([
  ['compressed-tensors', 'int8-token', false],
  ['compressed-tensors', 'int8-static', true],
  ['bitsandbytes', 'llm-int8', false],
] as const)('a %s folder says %s, and runs so', async (target, input, fixed) => {
  const recipe = parseRecipe({ stages: [{ ...stage(input), scaleFormat: 'fp16' }], export: target });
  const calibration = fixed ? windows.slice(0, 2) : undefined;
  const dir = await mkdtemp(join(tmpdir(), 'lmq-int8-'));
  try {
    const output = join(dir, 'out');
    const { bytes } = await quantizeModel(nano, { backend: nano.backend, recipe, output, calibration });
    expect(bytes).toBe((await estimateModel(nano, recipe, nano.backend, { calibration })).outputBytes);
    const opened = await openModel(output);
    const inputs = [...opened.checkpoint.inputs!.values()];
    expect(inputs).toHaveLength(28);
    expect(inputs.every((i) => (i.kind === 'int8' && i.static !== undefined) === fixed)).toBe(true);
    const [found, want] = [
      await nano.measure({ weights: new Map() }, 1, opened.checkpoint),
      await nano.measure(await nano.quantize(recipe, calibration), 1),
    ];
    expect(Math.abs(found.perplexity / want.perplexity - 1)).toBeLessThan(target === 'bitsandbytes' ? 1e-4 : 1e-12);
    await opened.close();
  } finally {
    await rm(dir, { recursive: true });
  }
});

it('a static input needs text; what cannot be stored or multiplied is refused before any work', async () => {
  const refused = async (fields: Record<string, unknown>, target = 'lmq') =>
    nano.quantize({ stages: [{ ...stage('int8-static'), ...fields }], export: target }, []).then(
      () => 'done',
      (e: LmqError) => e.code,
    );
  expect(await refused({})).toBe('calibration/short');
  expect(await refused({ bits: 4, groupSize: 16 })).toBe('argument/option');
  expect(await refused({ trits: true, bits: 2, preset: 'gptq' })).toBe('argument/option');
  expect(await refused({ method: 'gptq', groupSize: 64, actOrder: true })).toBe('argument/option');
  expect(await refused({}, 'gguf:f32')).toBe('export/unsupported');
  expect(await refused({ input: 'llm-int8', scaleFormat: 'fp16' }, 'compressed-tensors')).toBe('export/unsupported');
  expect(await refused({ input: 'int8-token', scaleFormat: 'fp16', groupSize: 64 }, 'compressed-tensors')).toBe('export/unsupported');
  expect(await refused({ input: { kind: 'llm-int8', threshold: 3 }, scaleFormat: 'fp16' }, 'bitsandbytes')).toBe('export/unsupported');
  for (const input of [
    'int4',
    { kind: 'fp8' },
    { kind: 'int8', per: 'token', range: 'minmax' },
    { kind: 'int8', range: 'entropy' },
    { kind: 'llm-int8', threshold: -1 },
    { kind: 'int8', x: 1 },
  ])
    expect(() => parseRecipe({ stages: [{ method: 'rtn', input }] }), JSON.stringify(input)).toThrow();
});
