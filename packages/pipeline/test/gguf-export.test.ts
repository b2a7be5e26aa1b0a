// The method ggml: llama.cpp's types and mixtures, made while the file is written.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Checkpoint, permutedRows, readImatrix, type SafetensorsFile, type TensorToWrite, writeSafetensors } from '@lmq/checkpoints';
import { fileSource, openCheckpoint, writeFileAtomic } from '@lmq/checkpoints/node';
import { decode, encodeBlocks, selectRows } from '@lmq/formats';
import { loadModel } from '@lmq/model';
import { NANO_MODELS } from '@lmq/nano';
import { type Blocks, type BlockType, createRng } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { calibrateModel, openStatisticsFile } from '../src/_node/calibrate-model.js';
import { estimateModel } from '../src/_node/estimate-model.js';
import { openImportanceFile } from '../src/_node/importance-file.js';
import { type OpenModel, openModel } from '../src/_node/open-model.js';
import { type QuantizeModelOpts, quantizeModel } from '../src/_node/quantize-model.js';
import type { Importance } from '../src/importance.js';
import { parseRecipe } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-gguf-'));
const path = (name: string) => join(dir, name);
let nano: Awaited<ReturnType<typeof openNano>>;
let moe: OpenModel;
beforeAll(async () => {
  nano = await openNano();
  moe = await openModel('lmq-nano-moe');
});
afterAll(async () => {
  await moe.close();
  rmSync(dir, { recursive: true, force: true });
});

const TEXT = windows.slice(0, 2).map((w) => w.slice(0, 128));

async function run(recipe: object, output: string, opts: Partial<QuantizeModelOpts> = {}, model: OpenModel = nano) {
  const report = await quantizeModel(model, { backend: nano.backend, recipe: parseRecipe(recipe), output: path(output), ...opts });
  const file = await openCheckpoint(report.output);
  const types = new Map([...file.tensors.values()].map((t) => [t.name, t.format]));
  return { report, file, types };
}

const Q = 'model.layers.0.self_attn.q_proj.weight';
/** A matrix of the original as float32, rows in GGUF's order. */
const original = async (checkpoint: Checkpoint, name: string, heads?: number) => {
  const t = await checkpoint.read(name);
  return decode(heads ? selectRows(t, permutedRows(t.shape[0], heads)) : t);
};

describe('the method ggml', () => {
  it('is what exports of blocks get when nobody names a method', async () => {
    expect(parseRecipe({ export: 'gguf:q4_k_m' }).stages).toEqual([expect.objectContaining({ method: 'ggml' })]);
    expect(parseRecipe({ export: 'gguf:q4_k_m', stages: [] }).stages).toEqual([]);
    for (const target of ['lmq', 'gguf:f16', 'gguf:bf16', 'gguf:f32']) expect(parseRecipe({ export: target }).stages).toEqual([]);
  });

  it.each<[string, BlockType, BlockType]>([
    ['q4_k_m', 'Q4_K', 'Q5_0'],
    ['q2_k', 'Q2_K', 'Q4_0'],
    ['iq4_nl', 'IQ4_NL', 'IQ4_NL'],
    ['nvfp4', 'NVFP4', 'NVFP4'],
  ])('%s: the bytes of the reference encoder, and of its fallback type', async (name, type, narrow) => {
    const { report, file, types } = await run({ export: `gguf:${name}` }, `${name}.gguf`);
    expect(file.metadata.get('general.quantization_version')).toBe(2);
    expect(types.get('blk.0.attn_q.weight')).toBe(type);
    const q = (await file.read('blk.0.attn_q.weight')) as Blocks;
    expect(q.data).toEqual(encodeBlocks(type, await original(nano.checkpoint, Q, 8)).data);
    const wide = [...types].filter(([tensor, t]) => tensor.includes('ffn_down') && t === narrow); // 640 columns
    expect(wide.length).toBeGreaterThan(0);
    const down = (await file.read(wide[0]![0])) as Blocks;
    const source = `model.layers.${wide[0]![0].split('.')[1]}.mlp.down_proj.weight`;
    expect(down.data).toEqual(encodeBlocks(narrow, await original(nano.checkpoint, source)).data);
    expect(types.get('blk.0.attn_norm.weight')).toBe('fp32');
    expect(report.notes.some((n) => n.includes(` as ${narrow}: `))).toBe(type !== narrow);
    const own = report.layers.find((l) => l.name === Q.replace('.weight', ''))!;
    expect(own).toMatchObject({ method: 'ggml', type, weights: 256 * 256 });
    const [a, b] = [await original(nano.checkpoint, Q, 8), decode(q)];
    const square = (f: (i: number) => number) => a.data.reduce((sum, _, i) => sum + f(i) ** 2, 0);
    expect(own.error).toBeCloseTo(square((i) => a.data[i]! - b.data[i]!) / square((i) => a.data[i]!), 10);
    const bits =
      report.layers.reduce((sum, l) => sum + l.bitsPerWeight * l.weights, 0) / report.layers.reduce((sum, l) => sum + l.weights, 0);
    expect(report.bitsPerWeight).toBeCloseTo(bits, 12);
    const estimate = await estimateModel(nano, parseRecipe({ export: `gguf:${name}` }), nano.backend);
    expect([estimate.outputBytes, estimate.bitsPerWeight]).toEqual([report.bytes, expect.closeTo(report.bitsPerWeight, 12)]);
    await file.close();
  });

  it('takes other types for some tensors, and leaves some as they are', async () => {
    const overrides = [
      { match: '*v_proj', type: 'q8_0' },
      { match: '*.layers.1.*', skip: true },
      { match: 'lm_head', type: 'bf16' }, // tied: these are the embeddings
      { match: '*down_proj', type: 'Q6_K' }, // 640 columns: its fallback
    ];
    const { types, file } = await run({ export: 'gguf:q4_k_s', overrides }, 'overrides.gguf');
    expect([0, 1, 2].map((l) => types.get(`blk.${l}.attn_v.weight`))).toEqual(['Q8_0', 'fp16', 'Q8_0']);
    expect([0, 1].map((l) => types.get(`blk.${l}.ffn_down.weight`))).toEqual(['Q8_0', 'fp16']);
    expect(types.get('token_embd.weight')).toBe('bf16');
    expect(types.get('blk.0.attn_q.weight')).toBe('Q4_K');
    await file.close();
    const embeddings = await run({ export: 'gguf:q4_k_s', overrides: [{ match: 'model.embed_tokens', type: 'Q5_K' }] }, 'embeddings.gguf');
    expect(embeddings.types.get('token_embd.weight')).toBe('Q5_K');
    await embeddings.file.close();
  });

  it('encodes each expert of a stack, and is open by any part', async () => {
    const { report, file, types } = await run({ export: 'gguf:mxfp4_moe' }, 'moe.gguf', { maxShardBytes: 500_000 }, moe);
    expect(report.output).toMatch(/moe-00001-of-\d{5}\.gguf$/);
    expect(report.notes.join()).toMatch(/in \d+ parts/);
    expect(types.get('blk.0.ffn_up_exps.weight')).toBe('MXFP4');
    expect(types.get('blk.0.attn_q.weight')).toBe('Q8_0');
    const up = (await file.read('blk.0.ffn_up_exps.weight')) as Blocks;
    const third = await original(moe.checkpoint, 'model.layers.0.block_sparse_moe.experts.2.w3.weight');
    const blocks = encodeBlocks('MXFP4', third).data;
    expect(up.data.subarray(2 * blocks.length, 3 * blocks.length)).toEqual(blocks);
    await file.close();
    const whole = await run({ export: 'gguf:mxfp4_moe' }, 'whole.gguf', {}, moe);
    expect(readdirSync(dir).filter((f) => f.startsWith('moe'))).toHaveLength(Number(/-of-0*(\d+)/.exec(report.output)![1]));
    const opened = await openModel(report.output.replace('00001-of', '00002-of'));
    for (const name of whole.types.keys())
      expect(await (await opened.checkpoint.read(name)).shape).toEqual((await whole.file.read(name)).shape);
    await opened.close();
    await whole.file.close();
  });

  it('reorders biases of queries and keys as their rows', async () => {
    const folder = path('biased');
    cpSync(fileURLToPath(NANO_MODELS['lmq-nano'].folder), folder, { recursive: true });
    const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, attention_bias: true }));
    const stored = nano.checkpoint as SafetensorsFile;
    const rng = createRng(8);
    const tensors = [...stored.tensors.values()].flatMap(({ name, shape }): TensorToWrite[] => {
      const weight = { name, shape: [...shape], dtype: stored.dtype(name), bytes: () => stored.readBytes(name) };
      if (!name.includes('self_attn')) return [weight];
      const bias = Float32Array.from({ length: shape[0]! }, () => rng.normal());
      return [weight, { name: name.replace('weight', 'bias'), shape: [shape[0]!], dtype: 'F32', bytes: () => new Uint8Array(bias.buffer) }];
    });
    await writeFileAtomic(join(folder, 'model.safetensors'), (sink) => writeSafetensors(sink, tensors), { force: true });
    const biased = await openModel(folder);
    const { report, file } = await run({ export: 'gguf:f32' }, 'biased.gguf', {}, biased);
    await file.close();
    const logits = async (opened: OpenModel) => {
      const model = await loadModel({ ...opened, backend: nano.backend });
      const scope = nano.backend.scope();
      const { data } = await scope.read(await model.forward(scope, TEXT[0]!.slice(0, 32)));
      scope.dispose();
      model.dispose();
      await opened.close();
      return data;
    };
    const [a, b] = [await logits(biased), await logits(await openModel(report.output))];
    expect(Math.max(...a.map((x, i) => Math.abs(x - b[i]!)))).toBeLessThan(1e-3);
  });

  it.each<[string, object, string]>([
    ['bits', { stages: [{ method: 'ggml', bits: 4 }], export: 'gguf:q4_0' }, 'argument/option'],
    ['another method for some', { export: 'gguf:q4_0', overrides: [{ match: '*', method: 'rtn' }] }, 'argument/option'],
    ['options for some', { export: 'gguf:q4_0', overrides: [{ match: '*', groupSize: 32 }] }, 'argument/option'],
    ['a type that cannot be written', { export: 'gguf:q4_0', overrides: [{ match: '*', type: 'IQ2_XS' }] }, 'argument/option'],
    ['a type without it', { stages: [{ method: 'rtn' }], overrides: [{ match: '*', type: 'Q4_K' }] }, 'argument/option'],
    ['an unknown export', { export: 'gguf:q4_k' }, 'argument/option'],
    ['a reserved name', { export: 'gguf:constructor' }, 'argument/option'],
  ])('refuses %s', (_, recipe, code) => {
    expect(() => parseRecipe(recipe)).toThrow(expect.objectContaining({ code }));
  });

  it.each<[string, object, Partial<QuantizeModelOpts>, string]>([
    ['a folder', { stages: [{ method: 'ggml' }] }, {}, 'export/unsupported'],
    ['floats', { stages: [{ method: 'ggml' }], export: 'gguf:f16' }, {}, 'export/unsupported'],
    ['results of other methods in a mixture', { stages: [{ method: 'rtn' }], export: 'gguf:q4_k_m' }, {}, 'export/unsupported'],
    ['nothing in a mixture', { stages: [], export: 'gguf:q4_k_m' }, {}, 'export/unsupported'],
    ['the smallest mixture without importances', { export: 'gguf:q2_k_s' }, {}, 'argument/option'],
    ['an override that matches nothing', { export: 'gguf:q4_0', overrides: [{ match: 'lm_hed', type: 'Q8_0' }] }, {}, 'argument/option'],
    ['importances for nothing', { stages: [{ method: 'rtn' }] }, { importance: { of: () => undefined } }, 'argument/option'],
    ['parts of a folder', { stages: [{ method: 'rtn' }] }, { maxShardBytes: 1e6 }, 'argument/option'],
  ])('refuses %s before any work', async (_, recipe, opts, code) => {
    await expect(run(recipe, 'refused', opts)).rejects.toThrow(expect.objectContaining({ code }));
    expect(readdirSync(dir).filter((f) => f.includes('refused'))).toEqual([]);
  });

  it('stops between strips, and leaves nothing', async () => {
    const controller = new AbortController();
    const onProgress = ({ phase, done }: { phase: string; done: number }) => {
      if (phase === 'write' && done === 2) controller.abort(new Error('enough'));
    };
    await expect(run({ export: 'gguf:q2_k' }, 'stopped.gguf', { signal: controller.signal, onProgress })).rejects.toThrow('enough');
    expect(readdirSync(dir).filter((f) => f.includes('stopped'))).toEqual([]);
  });
});

describe('importances', () => {
  const collected = new Map<string, Importance>();
  beforeAll(async () => {
    const opts = { backend: nano.backend, calibration: TEXT, dataset: 'two windows' };
    for (const [format, file] of [
      ['statistics', 'sums.safetensors'],
      ['imatrix', 'imatrix.gguf'],
      ['imatrix-dat', 'imatrix.dat'],
    ] as const) {
      await calibrateModel(nano, { ...opts, format, output: path(file) });
      collected.set(format, await openImportanceFile(path(file), nano));
    }
  });

  it('are the mean squares of what each matrix reads, from any file', async () => {
    const statistics = await openStatisticsFile(path('sums.safetensors'), nano);
    const h = await statistics.of('layers.1.down')!.hessian.read();
    const { sequences, tokens } = statistics.inputs.get('layers.1.down')!;
    await statistics.close();
    const wanted = Float32Array.from({ length: 640 }, (_, i) => (h.data[i * 641]! * sequences) / 2 / tokens);
    for (const [format, importance] of collected) {
      const own = importance.of('blk.1.ffn_down.weight', [256, 640])!;
      for (let i = 0; i < 640; i++) expect(Math.abs(own[i]! / wanted[i]! - 1), `${format} ${i}`).toBeLessThan(1e-6);
      const [q, k] = ['q', 'k'].map((p) => importance.of(`blk.0.attn_${p}.weight`, [256, 256]));
      expect(q).toEqual(k); // one input
      expect(importance.of('token_embd.weight', [2048, 256])).toBeUndefined();
      expect(() => importance.of('blk.1.ffn_down.weight', [256, 256])).toThrow(expect.objectContaining({ code: 'argument/value' }));
    }
    const source = await fileSource(path('imatrix.gguf'));
    const imatrix = await readImatrix(source);
    await source.close();
    expect([imatrix.datasets, imatrix.chunks, imatrix.chunkSize, imatrix.entries.size]).toEqual([['two windows'], 2, 128, 4 * 7]);
    expect(imatrix.entries.get('blk.0.attn_v.weight')!.counts).toEqual(Float32Array.of(256));
  });

  it('weigh errors: those that the matrix’s inputs show become smaller', async () => {
    const importance = collected.get('imatrix')!;
    const weighed = await run({ export: 'gguf:q4_k_m' }, 'weighed.gguf', { importance });
    const plain = await run({ export: 'gguf:q4_k_m' }, 'plain.gguf');
    expect(weighed.report.notes.join()).toMatch(/without importances: token_embd\.weight/);
    let smaller = 0;
    for (let l = 0; l < 4; l++) {
      const name = `blk.${l}.ffn_up.weight`;
      const w = await original(nano.checkpoint, `model.layers.${l}.mlp.up_proj.weight`);
      const squares = importance.of(name, [640, 256])!;
      const error = async (file: Checkpoint) => {
        const { data } = decode(await file.read(name));
        return data.reduce((sum, x, i) => sum + squares[i % 256]! * (x - w.data[i]!) ** 2, 0);
      };
      if ((await error(weighed.file)) < (await error(plain.file))) smaller++;
      const blocks = encodeBlocks('Q4_K', w, { importance: squares }).data;
      expect(((await weighed.file.read(name)) as Blocks).data).toEqual(blocks);
    }
    expect(smaller).toBe(4);
    const again = await run({ export: 'gguf:q4_k_m' }, 'again.gguf', { importance: collected.get('statistics')! });
    expect(readFileSync(path('again.gguf')).length).toBe(readFileSync(path('weighed.gguf')).length);
    for (const { file } of [weighed, plain, again]) await file.close();
  });

  it('of experts lie in their stack, counted by the tokens that reached each', async () => {
    await calibrateModel(moe, {
      backend: nano.backend,
      calibration: TEXT,
      minTokens: 0,
      format: 'imatrix',
      output: path('moe-imatrix.gguf'),
    });
    const source = await fileSource(path('moe-imatrix.gguf'));
    const { entries } = await readImatrix(source);
    await source.close();
    const { experts, topK } = moe.architecture.moe!;
    const up = entries.get('blk.0.ffn_up_exps.weight')!;
    expect(up.counts).toHaveLength(experts);
    expect(up.counts.reduce((a, b) => a + b, 0)).toBe(256 * topK);
    expect(entries.has('blk.0.ffn_gate_inp.weight')).toBe(false);
    expect(entries.has('output.weight')).toBe(true); // a head of its own
    const importance = await openImportanceFile(path('moe-imatrix.gguf'), moe);
    const { file } = await run({ export: 'gguf:q4_0' }, 'moe-weighed.gguf', { importance }, moe);
    const name = 'blk.1.ffn_gate_exps.weight';
    const shape = [...file.tensors.get(name)!.shape];
    const expert = experts - 1;
    const w = await original(moe.checkpoint, `model.layers.1.block_sparse_moe.experts.${expert}.w1.weight`);
    const runs = importance.of(name, shape)!;
    const own = runs.slice(expert * shape[2]!, (expert + 1) * shape[2]!);
    const stored = (await file.read(name)) as Blocks;
    const wanted = encodeBlocks(stored.type, w, { importance: own }).data;
    expect(stored.data.subarray(expert * wanted.length)).toEqual(wanted);
    await file.close();
  });
});
