// What the examples share: where to compute, a little text, a place for results, and what has become of a model.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { perplexity } from '@lmq/eval';
import { wasmBackend } from '@lmq/kernels-wasm';
import { loadModel } from '@lmq/model';
import { calibration as ids } from '@lmq/nano';
import { modelSize } from '@lmq/pipeline';
import { openModel, readTokens } from '@lmq/pipeline/node';

export const backend = await wasmBackend();

/** The built-in model: a Llama of 3 million parameters. The name of a folder works as well. */
export const model = await openModel('lmq-nano');

/** Windows of token ids to calibrate on. For a real model: 128 windows of 2048 tokens of text like what it will read. */
export const calibration = JSON.parse(readFileSync(ids, 'utf8')).slice(0, 4);

const folder = mkdtempSync(join(tmpdir(), 'lmq-'));
process.on('exit', () => rmSync(folder, { recursive: true }));
/** A path for a result, which goes away at the end. */
export const place = (name) => join(folder, name);

const text = await readTokens(model.builtIn.validation, model.tokenizer, model.architecture.vocab);
async function measure(opened) {
  const loaded = await loadModel({ ...opened, backend });
  const result = await perplexity(loaded, text.ids, { context: 512, windows: 4 });
  loaded.dispose();
  return result.perplexity;
}
let before; // of the original

/** Opens a result and prints its perplexity beside that of the original, and its size. */
export async function show(output) {
  const opened = await openModel(output);
  before ??= await measure(model);
  const after = await measure(opened);
  const { bytes, bitsPerWeight } = modelSize(opened.checkpoint, opened.architecture);
  await opened.close();
  console.log(
    `perplexity ${before.toFixed(2)} → ${after.toFixed(2)}, ${bitsPerWeight.toFixed(2)} bits per weight, ${(bytes / 1e6).toFixed(2)} MB`,
  );
}
