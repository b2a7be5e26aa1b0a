// Folders of compressed-tensors: opened by name, they compute what the same weights compute in memory, with inputs in 8 bits where they say so.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  compressedTensorsConfig,
  compressedTensorsScheme,
  type SafetensorsFile,
  type TensorToWrite,
  toCompressedTensors,
  writeSafetensors,
} from '@lmq/checkpoints';
import { writeFileAtomic } from '@lmq/checkpoints/node';
import { perplexity } from '@lmq/eval';
import { loadModel } from '@lmq/model';
import { NANO_MODELS } from '@lmq/nano';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openModel } from '../src/_node/open-model.js';
import { openNano } from './_nano.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-compressed-tensors-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
let nano: Awaited<ReturnType<typeof openNano>>;
beforeAll(async () => {
  nano = await openNano();
});

it.each([
  ['pack-quantized', 'none', { bits: 3, groupSize: 32, symmetric: false }],
  ['int-quantized', 'dynamic', { bits: 8, groupSize: -1, symmetric: true }],
] as const)('%s, activations %s, %o: perplexity as in memory', async (format, activations, options) => {
  const { weights } = await nano.quantize({ stages: [{ method: 'rtn', ...options }] }, []);
  const folder = join(dir, format);
  cpSync(fileURLToPath(NANO_MODELS['lmq-nano'].folder), folder, { recursive: true });
  const original = nano.checkpoint as SafetensorsFile;
  const tensors = [...original.tensors.values()].flatMap((t): TensorToWrite[] => {
    const quantized = weights.get(t.name);
    if (quantized) return toCompressedTensors(t.name, quantized, { format });
    return [{ name: t.name, shape: [...t.shape], dtype: original.dtype(t.name), bytes: () => original.readBytes(t.name) }];
  });
  await writeFileAtomic(join(folder, 'model.safetensors'), (sink) => writeSafetensors(sink, tensors), { force: true });
  const linears = [...weights].map(([name, t]) => [name, compressedTensorsScheme(name, t, { format })] as const);
  const quantization_config = compressedTensorsConfig({ linears, activations, ignore: ['lm_head'] });
  const file = join(folder, 'config.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), quantization_config }));

  const opened = await openModel(folder);
  try {
    expect(opened.checkpoint.format).toBe('compressed-tensors');
    expect(opened.warnings).toEqual([]);
    const inputs = new Map([...weights.keys()].map((name) => [name, { kind: 'int8', per: 'token', symmetric: true } as const]));
    expect(opened.checkpoint.inputs).toEqual(activations === 'none' ? undefined : inputs);
    const model = await loadModel({ ...opened, backend: nano.backend });
    const found = (await perplexity(model, nano.ids, { context: 512, windows: 1 })).perplexity;
    model.dispose();
    expect(found).toBe((await nano.measure({ weights, inputs: opened.checkpoint.inputs as typeof inputs }, 1)).perplexity);
    if (activations !== 'none') expect(found).not.toBe(await nano.evaluate(weights, 1));
  } finally {
    await opened.close();
  }
});
