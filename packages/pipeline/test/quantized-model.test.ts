// Folders that quantization tools write: opened by name, they compute what the same weights compute in memory.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  autoRoundConfig,
  awqConfig,
  bitsandbytesConfig,
  gptqConfig,
  hqqConfig,
  type SafetensorsFile,
  type TensorToWrite,
  toAutoRoundTensors,
  toAwqTensors,
  toBitsandbytesTensors,
  toGptqTensors,
  toHqqTensors,
  writeSafetensors,
} from '@lmq/checkpoints';
import { writeFileAtomic } from '@lmq/checkpoints/node';
import { perplexity } from '@lmq/eval';
import { decode, encodeTable4 } from '@lmq/formats';
import { loadModel } from '@lmq/model';
import { NANO_MODELS } from '@lmq/nano';
import type { CompressedTensor } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { parseRecipe } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-quantized-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
let nano: Awaited<ReturnType<typeof openNano>>;
beforeAll(async () => {
  nano = await openNano();
});

type Pack = (name: string, t: CompressedTensor) => TensorToWrite[];

/** A model folder with quantized linears, and where the configuration of the quantization is. */
async function write(name: string, weights: Map<string, CompressedTensor>, pack: Pack, config: object, inside: boolean): Promise<string> {
  const folder = join(dir, name);
  cpSync(fileURLToPath(NANO_MODELS['lmq-nano'].folder), folder, { recursive: true });
  const original = nano.checkpoint as SafetensorsFile;
  const tensors = [...original.tensors.values()].flatMap((t): TensorToWrite[] => {
    const quantized = weights.get(t.name);
    if (quantized) return pack(t.name, quantized);
    return [{ name: t.name, shape: [...t.shape], dtype: original.dtype(t.name), bytes: () => original.readBytes(t.name) }];
  });
  await writeFileAtomic(join(folder, 'model.safetensors'), (sink) => writeSafetensors(sink, tensors), { force: true });
  const file = join(folder, 'config.json');
  const model = JSON.parse(readFileSync(file, 'utf8'));
  if (inside) writeFileSync(file, JSON.stringify({ ...model, quantization_config: config }));
  else writeFileSync(join(folder, 'quantize_config.json'), JSON.stringify(config));
  return folder;
}

describe('a folder quantized by other tools', () => {
  it.each([
    ['gptq', { bits: 4, groupSize: 64, actOrder: true }, true],
    ['gptq', { bits: 3, groupSize: 32, symmetric: true }, false],
    ['awq', { bits: 4, groupSize: 64 }, true],
  ] as const)('%s %o: perplexity as in memory; not quantized again', async (format, options, inside) => {
    const { bits, groupSize } = options;
    const { weights } = await nano.quantize({ stages: [{ method: 'gptq', ...options }] }, windows.slice(0, 8));
    const sym = 'symmetric' in options;
    const [pack, config] =
      format === 'awq'
        ? [toAwqTensors as Pack, awqConfig({ groupSize })]
        : [
            ((name, t) => toGptqTensors(name, t, { version: 'v1' })) as Pack,
            gptqConfig({ bits, groupSize, sym, descAct: 'actOrder' in options, version: 'v1' }),
          ];
    const folder = await write(`${format}-${bits}`, weights, pack, config, inside);
    const opened = await openModel(folder);
    try {
      expect(opened.checkpoint.format).toBe(format);
      const model = await loadModel({ ...opened, backend: nano.backend });
      const found = (await perplexity(model, nano.ids, { context: 512, windows: 4 })).perplexity;
      model.dispose();
      expect(found).toBe(await nano.evaluate(weights, 4));
      const again = quantizeModel(opened, {
        backend: nano.backend,
        recipe: parseRecipe({ stages: [{ method: 'rtn' }] }),
        output: join(dir, 'again'),
      });
      await expect(again).rejects.toMatchObject({ code: 'model/unsupported' });
    } finally {
      await opened.close();
    }
  });

  it.each([
    ['bitsandbytes', 'nf4'],
    ['bitsandbytes', 'int8'],
    ['hqq', 'rtn'],
    ['auto-round', 'rtn'],
  ] as const)('%s %s: perplexity as in memory', async (format, method) => {
    const bits = method === 'int8' ? 8 : 4;
    const groupSize = bits === 8 ? -1 : 64;
    const symmetric = format !== 'hqq';
    const input = method === 'int8' ? 'llm-int8' : undefined; // what 8-bit weights of bitsandbytes are made for
    const quantized = await nano.quantize({ stages: [{ method: 'rtn', bits, groupSize, symmetric, input }] }, windows.slice(0, 1));
    const { weights } = quantized;
    if (method === 'nf4')
      for (const name of weights.keys())
        weights.set(name, encodeTable4('nf4', decode(await nano.checkpoint.read(name)), { blockSize: 64, doubleQuant: true }));
    const [pack, config] = {
      bitsandbytes: [
        (name: string, t: CompressedTensor) => toBitsandbytesTensors(name, t, { dtype: 'bf16' }),
        bitsandbytesConfig({ type: method === 'nf4' ? 'nf4' : 'int8', doubleQuant: method === 'nf4' }),
      ] as const,
      hqq: [toHqqTensors, hqqConfig({ bits, groupSize })] as const,
      'auto-round': [
        (name: string, t: CompressedTensor) => toAutoRoundTensors(name, t, { packing: 'gptq-v1' }),
        autoRoundConfig({ packing: 'gptq-v1', bits, groupSize, sym: true }),
      ] as const,
    }[format];
    const opened = await openModel(await write(`${format}-${method}`, weights, pack, config, true));
    try {
      expect(opened.checkpoint.format).toBe(format);
      const model = await loadModel({ ...opened, backend: nano.backend });
      const found = (await perplexity(model, nano.ids, { context: 512, windows: 2 })).perplexity;
      model.dispose();
      expect(found).toBe((await nano.measure(quantized, 2)).perplexity);
    } finally {
      await opened.close();
    }
  });

  it('says which method it does not read', async () => {
    const folder = join(dir, 'other');
    cpSync(fileURLToPath(NANO_MODELS['lmq-nano'].folder), folder, { recursive: true });
    const file = join(folder, 'config.json');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), quantization_config: { quant_method: 'quip' } }));
    await expect(openModel(folder)).rejects.toThrow(/quip/);
  });
});
