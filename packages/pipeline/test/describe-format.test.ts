// What models are called, and what is said to be odd about them.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { wasmBackend } from '@lmq/kernels-wasm';
import { afterAll, describe, expect, it } from 'vitest';
import { describeFormat } from '../src/_node/describe-format.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { parseRecipe } from '../src/recipe.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-describe-'));
const at = (name: string) => join(dir, name);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function described(name: string) {
  const model = await openModel(name);
  try {
    return await describeFormat(model);
  } finally {
    await model.close();
  }
}

async function quantize(name: string, target: string, stage: object) {
  const model = await openModel('lmq-nano');
  const recipe = parseRecipe({ stages: [{ method: 'rtn', ...stage }], export: target });
  await quantizeModel(model, { backend: await wasmBackend(), recipe, output: at(name) });
  await model.close();
  return described(at(name));
}

describe('describeFormat', () => {
  it.each([
    ['gptq', { bits: 4, groupSize: 64, symmetric: true }, 'GPTQ v1, 4-bit g64 symmetric'],
    ['gptq:v2', { bits: 8, groupSize: -1 }, 'GPTQ v2, 8-bit per row asymmetric'],
    ['awq', { bits: 4, groupSize: 32 }, 'AWQ GEMM, 4-bit g32 asymmetric'],
    ['gguf:q8_0', { bits: 8, groupSize: 32, symmetric: true }, 'GGUF v3, mostly Q8_0'],
    ['lmq', { bits: 3, groupSize: 64 }, 'lmq, mostly affine 3-bit g64 asym'],
  ] as const)('%s %o', async (target, stage, name) => {
    const { name: found, formats } = await quantize(target.replace(':', '.'), target, stage);
    expect(found).toBe(name);
    expect(formats.reduce((n, f) => n + f.tensors, 0)).toBe(38);
    expect(formats.reduce((n, f) => n + f.share, 0)).toBeCloseTo(1, 12);
  });

  it('a model of plain floats', async () => {
    const { name, quirks, formats } = await described('lmq-nano');
    expect([name, quirks, formats.length]).toEqual(['safetensors, bf16', [], 1]);
  });

  it('names labels that the data contradicts', async () => {
    const file = join(at('gptq'), 'config.json');
    const config = JSON.parse(readFileSync(file, 'utf8'));
    config.quantization_config.checkpoint_format = 'gptq_v2';
    writeFileSync(file, JSON.stringify(config));
    const { name, quirks } = await described(at('gptq'));
    expect(name).toBe('GPTQ v2, 4-bit g64 symmetric; mislabelled');
    expect(quirks[0]).toMatch(/zero points are those of a symmetric file of version 1/);
  });
});
