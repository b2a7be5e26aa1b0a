// Exports to ONNX, without a runtime: what the files hold. Runtimes that run them are in peers/.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TensorInfo } from '@lmq/checkpoints';
import { openCheckpoint } from '@lmq/checkpoints/node';
import { decode } from '@lmq/formats';
import { wasmBackend } from '@lmq/kernels-wasm';
import { type CompressedTensor, isLmqError, type ProgressEvent } from '@lmq/tensor';
import { afterAll, describe, expect, it } from 'vitest';
import { estimateModel } from '../src/_node/estimate-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { verifyModel } from '../src/_node/verify-model.js';
import { onnxDecoder } from '../src/onnx-graph/decoder.js';
import { parseRecipe } from '../src/recipe.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-onnx-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const backend = await wasmBackend();

let made = 0;
async function quantize(
  stage: object | null,
  to: string,
  { model = 'lmq-nano', ...opts }: { model?: string; onProgress?: (e: ProgressEvent) => void; signal?: AbortSignal } = {},
) {
  const opened = await openModel(model);
  const recipe = parseRecipe({ stages: stage ? [{ method: 'rtn', ...stage }] : [], export: to });
  const output = join(dir, `out-${made++}`);
  try {
    const report = await quantizeModel(opened, { backend, recipe, output, ...opts });
    return { output, recipe, report, architecture: opened.architecture };
  } finally {
    await opened.close();
  }
}
const problem = (p: Promise<unknown>) =>
  p.then(() => 'nothing was thrown').catch((e) => (isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e)));
const bytesOf = (t: CompressedTensor) => Buffer.from(decode(t).data.buffer);
/** Equal numbers; expect() would look at each. */
const same = (a: CompressedTensor, b: CompressedTensor) => bytesOf(a).equals(bytesOf(b));
const json = (path: string) => JSON.parse(readFileSync(path, 'utf8'));

describe('an ONNX folder', () => {
  it.each([
    ['float', null, 'lmq-nano', 'model.onnx', 'fp32'],
    ['4 bits', { groupSize: 32 }, 'lmq-nano', 'model_q4.onnx', 'q4'],
    ['4 bits, symmetric rows', { symmetric: true }, 'lmq-nano', 'model_q4.onnx', 'q4'],
    ['8 bits', { bits: 8, groupSize: 64 }, 'lmq-nano', 'model_quantized.onnx', 'q8'],
    ['experts', { groupSize: 16 }, 'lmq-nano-moe', 'model_q4.onnx', 'q4'],
  ] as const)('%s: holds the weights exactly, under the names that transformers.js looks for', async (_, stage, model, file, dtype) => {
    const { output, recipe, report, architecture } = await quantize(stage, 'onnx', { model });
    expect(readdirSync(join(output, 'onnx')).sort()).toEqual([file, `${file}_data`]);
    expect(readdirSync(output)).toEqual(expect.arrayContaining(['config.json', 'tokenizer.json', 'tokenizer_config.json']));
    const config = json(join(output, 'config.json'));
    expect(config['transformers.js_config']).toEqual({ dtype, use_external_data_format: { [file]: 1 } });
    expect(config.model_type).toBe(architecture.family);
    const source = await openModel(model);
    expect((await estimateModel(source, recipe, backend)).outputBytes).toBe(report.bytes);
    await source.close();

    const lmq = await quantize(stage, 'lmq', { model });
    const [ours, theirs] = [await openCheckpoint(lmq.output), await openCheckpoint(join(output, 'onnx', file))];
    const again = await openModel(output); // the folder as a model: under the names of the original
    expect(again.architecture).toEqual(architecture);
    for (const name of again.checkpoint.tensors.keys())
      expect(same(await again.checkpoint.read(name), await ours.read(name)), name).toBe(true);
    await again.close();
    for (const site of architecture.sites) {
      const [a, b] = [await ours.read(site.tensor), await theirs.read(`${site.name}.weight`)];
      expect(b.kind).toBe(stage && site.role !== 'router' ? 'affine' : 'dense');
      expect(same(a, b), site.name).toBe(true);
    }
    expect(same(await theirs.read('model.embed_tokens.weight'), await ours.read(architecture.tensors.embedding))).toBe(true);
    expect(report.notes.some((n) => n.includes('transformers.js'))).toBe(model === 'lmq-nano-moe');
    await ours.close();
    await theirs.close();
  });

  it('of another exporter, or of fused linears, is no model to lmq', async () => {
    const { output } = await quantize({ groupSize: 32 }, 'onnx');
    const config = json(join(output, 'config.json'));
    const rewrite = (more: object) => writeFileSync(join(output, 'config.json'), JSON.stringify({ ...config, ...more }));
    rewrite({ num_hidden_layers: 5 });
    expect(await problem(openModel(output))).toMatch(/^model\/unsupported .*does not name its weights as lmq does.*model\.layers\.4/);
    rewrite({ model_type: 'phi3', pad_token_id: null });
    expect(await problem(openModel(output))).toMatch(/^model\/unsupported .*one tensor in the folder are apart/);
    const { valid, findings } = await verifyModel(output);
    expect([valid, findings[0]?.check]).toEqual([false, 'configuration']);
  });

  it('has the same bytes every time', async () => {
    const [a, b] = [await quantize({ groupSize: 32 }, 'onnx'), await quantize({ groupSize: 32 }, 'onnx')];
    for (const file of ['model_q4.onnx', 'model_q4.onnx_data']) {
      expect(readFileSync(join(a.output, 'onnx', file)).equals(readFileSync(join(b.output, 'onnx', file)))).toBe(true);
    }
  });

  it.each([
    [{ bits: 3 }, /^export\/unsupported .*onnx cannot hold.*bits 4 or 8.*bits 3.*lmq \(as it is\)/],
    [{ groupSize: 8 }, /^export\/unsupported .*groupSize 8/],
    [{ method: 'gptq', groupSize: 32, actOrder: true }, /^export\/unsupported .*act-order \(use staticGroups true\)/],
  ])('refuses %o before any work', async (stage, message) => {
    expect(await problem(quantize(stage, 'onnx'))).toMatch(message);
  });

  it('leaves nothing behind when it is stopped', async () => {
    const stop = new AbortController();
    const onProgress = (e: ProgressEvent) => {
      if (e.phase === 'write' && e.done > 20) stop.abort(new Error('enough'));
    };
    const before = readdirSync(dir).length;
    await expect(quantize(null, 'onnx', { signal: stop.signal, onProgress })).rejects.toThrow('enough');
    expect(readdirSync(dir).filter((n) => n.includes('partial'))).toEqual([]);
    expect(readdirSync(dir).filter((n) => !n.startsWith('.')).length).toBe(before);
  });
});

describe('onnxDecoder', () => {
  it('reads no weight that is not quantized while it builds the graph', async () => {
    const { checkpoint, architecture, close } = await openModel('lmq-nano');
    const read = () => Promise.reject(new Error('a weight was read'));
    const graph = await onnxDecoder({ checkpoint: { ...checkpoint, read }, architecture });
    expect(graph.inputs.map((i) => i.name).slice(0, 5)).toEqual([
      ...['input_ids', 'attention_mask', 'position_ids'],
      ...['past_key_values.0.key', 'past_key_values.0.value'],
    ]);
    expect(graph.outputs.map((o) => o.name).slice(0, 3)).toEqual(['logits', 'present.0.key', 'present.0.value']);
    expect(graph.inputs[3]!.shape).toEqual(['batch_size', 2, 'past_sequence_length', 32]);
    await close();
  });

  it('holds the checkpoint against the configuration', async () => {
    const { checkpoint, architecture, close } = await openModel('lmq-nano');
    const refusal = (change: (tensors: Map<string, TensorInfo>) => void) => {
      const tensors = new Map(checkpoint.tensors);
      change(tensors);
      return problem(onnxDecoder({ checkpoint: { ...checkpoint, tensors }, architecture }));
    };
    const info = (name: string) => checkpoint.tensors.get(name)!;
    const q = 'model.layers.1.self_attn.q_proj.weight';
    expect(await refusal((t) => t.delete('model.norm.weight'))).toMatch(/^model\/missing .*model\.norm\.weight/);
    expect(await refusal((t) => t.set(q, { ...info(q), shape: [256, 128] }))).toMatch(
      /^model\/config .*q_proj.*\[256, 256\].*\[256, 128\]/,
    );
    const bias = q.replace('weight', 'bias');
    expect(await refusal((t) => t.set(bias, { ...info(q), name: bias, shape: [256] }))).toMatch(
      /^model\/unsupported .*does not declare.*bias/,
    );
    await close();
  });
});
