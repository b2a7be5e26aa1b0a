// Models quantized and converted into a folder of their own, and what their weights decode to.
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from '@lmq/formats';
import { wasmBackend } from '@lmq/kernels-wasm';
import { afterAll } from 'vitest';
import { convertModel } from '../src/_node/convert-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import type { ExportName } from '../src/api.js';
import { parseRecipe } from '../src/recipe.js';

export const dir = mkdtempSync(join(tmpdir(), 'lmq-convert-'));
export const at = (name: string) => join(dir, name);
const backend = wasmBackend();
afterAll(() => rmSync(dir, { recursive: true, force: true }));

export async function quantize(
  output: string,
  target: string,
  stage: object,
  overrides: object[] = [],
  from = 'lmq-nano',
  include: string[] = [],
) {
  const model = await openModel(from);
  try {
    const recipe = parseRecipe({ stages: [{ method: 'rtn', ...stage }], overrides, include, export: target });
    return await quantizeModel(model, { backend: await backend, recipe, output: at(output) });
  } finally {
    await model.close();
  }
}

export async function convert(from: string, to: string, target: ExportName, more: { original?: string; dryRun?: boolean } = {}) {
  const model = await openModel(from);
  try {
    return await convertModel(model, { export: target, output: at(to), ...more });
  } finally {
    await model.close();
  }
}

export const config = (name: string) => JSON.parse(readFileSync(join(at(name), 'config.json'), 'utf8'));

/** Every tensor of a model, decoded, as a digest of its bits. */
export async function valuesOf(name: string): Promise<Map<string, string>> {
  const model = await openModel(name);
  const values = new Map<string, string>();
  for (const t of model.checkpoint.tensors.keys()) values.set(t, bits(decode(await model.checkpoint.read(t)).data as Float32Array));
  await model.close();
  return values;
}
const bits = (data: Float32Array) =>
  createHash('sha1')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');
