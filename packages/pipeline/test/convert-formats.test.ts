// The folder formats of other tools: what `quantize` and `convert` write opens by name with the same values, there and back.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { perplexity } from '@lmq/eval';
import { decode, encodeFloats, encodeMx, encodeTable4, zeroPointValues } from '@lmq/formats';
import { wasmBackend } from '@lmq/kernels-wasm';
import { loadModel } from '@lmq/model';
import { rtn } from '@lmq/quant-core';
import type { CompressedTensor, InputQuant } from '@lmq/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { type FolderName, folderFormat } from '../src/_folders/table.js';
import { exportLmq } from '../src/_node/export-lmq.js';
import { openModel } from '../src/_node/open-model.js';
import { planSites } from '../src/plan.js';
import { parseRecipe } from '../src/recipe.js';
import { at, config, convert, quantize, valuesOf } from './_convert.js';
import { windows } from './_nano.js';

const sha = (name: string) =>
  createHash('sha1')
    .update(readFileSync(join(at(name), 'model.safetensors')))
    .digest('hex');

/** An lmq folder of lmq-nano with the linears of its blocks as `encode` makes them. */
async function store(name: string, encode: (w: ReturnType<typeof decode>, tensor: string) => CompressedTensor): Promise<void> {
  const model = await openModel('lmq-nano');
  const { checkpoint, folder } = model;
  const made = new Map<string, CompressedTensor>(); // read twice
  const read = async (tensor: string) => {
    if (!tensor.endsWith('_proj.weight')) return checkpoint.read(tensor);
    const t = made.get(tensor) ?? encode(decode(await checkpoint.read(tensor)), tensor);
    made.set(tensor, t);
    return t;
  };
  await exportLmq({ ...checkpoint, read }, { output: at(name), companions: { folder: folder!, files: {} }, info: {} });
  await model.close();
}

/** LLM.int8(): the largest magnitude of a row has code 127. */
function rows8({ shape: [rows, cols], data }: ReturnType<typeof decode>): CompressedTensor {
  const row = (r: number) => (data as Float32Array).subarray(r * cols!, (r + 1) * cols!);
  const scales = Float32Array.from({ length: rows! }, (_, r) => row(r).reduce((a, x) => Math.max(a, Math.abs(x)), 0) / 127);
  const codes = Uint8Array.from(data, (x, i) => Math.round(x / scales[Math.floor(i / cols!)]!) + 128);
  const shape = [rows!, cols!] as [number, number];
  return { kind: 'affine', shape, bits: 8, groupSize: cols!, codes, scales: { block: [1, cols!], format: 'fp32', data: scales } };
}

/** With `input`, that of all linears in blocks whatever the folder says. */
async function perplexityOf(name: string, input?: InputQuant): Promise<number> {
  const opened = await openModel(name);
  const linears = opened.architecture.sites.map((s) => [s.tensor, input] as const);
  const checkpoint = input ? { ...opened.checkpoint, inputs: new Map(linears as [string, InputQuant][]) } : opened.checkpoint;
  const model = await loadModel({ ...opened, checkpoint, backend: await wasmBackend() });
  const found = (await perplexity(model, windows[0]!, { context: 256, windows: 1 })).perplexity;
  model.dispose();
  await opened.close();
  return found;
}

const QUANTIZED: [FolderName, object, object, object[]?][] = [
  ['compressed-tensors', { bits: 4, groupSize: 64, symmetric: true }, { format: 'pack-quantized', ignore: ['lm_head'] }],
  ['compressed-tensors', { bits: 3, groupSize: 32 }, { config_groups: { group_0: { weights: { num_bits: 3, symmetric: false } } } }],
  [
    'compressed-tensors',
    { bits: 8, groupSize: -1 },
    { config_groups: { group_0: { weights: { strategy: 'channel' } }, group_1: { weights: { num_bits: 5 } } } },
    [
      { match: '*.layers.1.mlp.down_proj', bits: 5 },
      { match: '*.layers.2.*', skip: true },
    ],
  ],
  ['bitsandbytes', { bits: 8, symmetric: true }, { load_in_8bit: true, llm_int8_skip_modules: ['lm_head'] }],
  ['hqq', { bits: 4, groupSize: 64 }, { quant_config: { weight_quant_params: { nbits: 4, group_size: 64 } }, skip_modules: ['lm_head'] }],
  ['hqq', { bits: 3, scaleFormat: 'fp32' }, { quant_config: { weight_quant_params: { nbits: 3, group_size: -1 } } }],
  ['auto-round', { bits: 4, groupSize: 64, symmetric: true }, { packing_format: 'auto_round:auto_gptq', sym: true }],
  ['auto-round', { bits: 2, groupSize: 32 }, { packing_format: 'auto_round:gptqmodel', sym: false }],
  ['auto-round:auto_awq', { bits: 4, groupSize: 64 }, { packing_format: 'auto_round:auto_awq' }],
  [
    'auto-round:gptqmodel',
    { bits: 4, groupSize: 64, symmetric: true },
    {
      extra_config: { 'model.layers.1.mlp.down_proj': { bits: 8, group_size: 32, sym: true }, 'model.layers.2.mlp.up_proj': { bits: 16 } },
    },
    [
      { match: '*.layers.1.mlp.down_proj', bits: 8, groupSize: 32 },
      { match: '*.layers.2.*', skip: true },
    ],
  ],
];

describe('quantize --export', () => {
  it.each(QUANTIZED)(
    '%s %o: the values of the lmq export, in the bytes that were estimated',
    async (target, stage, says, overrides = []) => {
      const name = createHash('sha1')
        .update(JSON.stringify([target, stage]))
        .digest('hex');
      await quantize(name, target, stage, overrides);
      await quantize(`${name}-lmq`, 'lmq', stage, overrides);
      expect(await valuesOf(at(name))).toEqual(await valuesOf(at(`${name}-lmq`)));
      expect(config(name).quantization_config).toMatchObject(says);
      const model = await openModel('lmq-nano');
      const recipe = parseRecipe({ stages: [{ method: 'rtn', ...stage }], overrides, export: target });
      const planned = planSites(model.checkpoint, model.architecture, recipe);
      const sizes = new Map([...model.checkpoint.tensors.values()].map((t) => [t.name, t.bytes]));
      const format = await folderFormat(target);
      for (const p of planned) sizes.set(p.site.tensor, format.bytes(p, 'bf16', planned));
      await model.close();
      const file = readFileSync(join(at(name), 'model.safetensors'));
      expect([...sizes.values()].reduce((a, b) => a + b)).toBe(file.length - 8 - Number(file.readBigUInt64LE(0)));
    },
  );

  it('a quantized head, and routers that are not', async () => {
    const moe = 'lmq-nano-moe';
    for (const target of ['compressed-tensors', 'auto-round'] as const)
      await quantize(`head-${target}`, target, { bits: 4, groupSize: 64, symmetric: true }, [], moe, ['lm_head']);
    expect(config('head-compressed-tensors').quantization_config.ignore).toEqual(
      expect.arrayContaining(['model.layers.0.block_sparse_moe.gate']),
    );
    expect(config('head-compressed-tensors').quantization_config.ignore).not.toContain('lm_head');
    expect(config('head-auto-round').quantization_config.extra_config).toMatchObject({
      lm_head: { bits: 4, group_size: 64, sym: true },
      'model.layers.0.block_sparse_moe.gate': { bits: 16 },
    });
    expect(await valuesOf(at('head-auto-round'))).toEqual(await valuesOf(at('head-compressed-tensors')));
  });

  it.each([
    ['bitsandbytes', { bits: 4, symmetric: true }, [], /bits 4/],
    ['bitsandbytes', { bits: 8 }, [], /asymmetric/],
    ['bitsandbytes', { bits: 8, symmetric: true, groupSize: 64 }, [], /groupSize 64/],
    ['bitsandbytes', { bits: 8, symmetric: true, scaleFormat: 'fp32' }, [], /fp32 scales/],
    ['hqq', { bits: 7 }, [], /bits 7/],
    ['hqq', { bits: 2, trits: true }, [], /trits/],
    ['compressed-tensors', { bits: 4, scaleFormat: 'fp32' }, [], /fp32 scales/],
    ['compressed-tensors', { bits: 4 }, [{ match: '*.layers.1.self_attn.k_proj', bits: 8 }], /fuse/],
    ['auto-round', { method: 'gptq', bits: 4, groupSize: 64, actOrder: true }, [], /act-order/],
    ['auto-round', { bits: 5 }, [], /bits 5/],
    ['auto-round:auto_gptq', { bits: 4 }, [], /asymmetric/],
    ['auto-round:auto_awq', { bits: 3 }, [], /bits 3/],
  ] as const)('%s refuses %o %o before any work', async (target, stage, overrides, message) => {
    await expect(quantize('never', target, stage, [...overrides])).rejects.toMatchObject({
      code: 'export/unsupported',
      message: expect.stringMatching(message),
    });
    expect(existsSync(at('never'))).toBe(false);
  });
});

describe('convert', () => {
  beforeAll(async () => {
    await quantize('gptq', 'gptq', { bits: 4, groupSize: 64, symmetric: true });
    await store('int8', rows8);
    await store('nf4', (w) => encodeTable4('nf4', w, { blockSize: 64, doubleQuant: true }));
    await store('mxfp4', (w) => encodeMx('fp4e2m1', w));
    await store('hqq', (w) => {
      const t = rtn(w, { bits: 4, groupSize: 64, scaleFormat: 'fp16' }).weight as Extract<CompressedTensor, { kind: 'affine' }>;
      const zeros = Float32Array.from(zeroPointValues(t, 0, t.scales.data.length), (z) => z + 0.37);
      return { ...t, zeroPoints: { format: 'fp16', data: encodeFloats('fp16', zeros) } };
    });
  }, 60_000);

  it.each([
    ['gptq', ['compressed-tensors', 'auto-round', 'hqq', 'lmq', 'auto-round:auto_awq', 'awq', 'auto-round:gptqmodel', 'gptq']],
    ['int8', ['bitsandbytes', 'hqq', 'compressed-tensors', 'bitsandbytes', 'lmq']],
    ['nf4', ['bitsandbytes', 'lmq']],
    ['mxfp4', ['compressed-tensors', 'lmq']],
    ['hqq', ['hqq', 'lmq']],
  ] as const)('%s → %o: the same bytes in the end, the same values on the way', async (from, targets) => {
    const before = await valuesOf(at(from));
    let last: string = from;
    for (const [i, target] of targets.entries()) {
      const next = `${from}-${i}`;
      const { changes } = await convert(at(last), next, target);
      expect(changes.filter((c) => c.effect !== 'same' && c.effect !== 'exact')).toEqual([]);
      expect(await valuesOf(at(next)), target).toEqual(before);
      last = next;
    }
    expect(sha(last)).toBe(sha(from));
  });

  it.each(['nf4', 'hqq'])('%s computes the same from the folder of its tool', async (from) => {
    expect(await perplexityOf(at(`${from}-0`))).toBe(await perplexityOf(at(from)));
  });

  it('int8 is LLM.int8() in the folder of its tool', async () => {
    const found = await perplexityOf(at('int8-0'));
    expect(found).toBe(await perplexityOf(at('int8'), { kind: 'llm-int8', threshold: 6 }));
    expect(found).not.toBe(await perplexityOf(at('int8')));
    expect((await convert(at('int8-0'), 'int8-again', 'bitsandbytes')).notes.join()).not.toMatch(/inputs of/); // it says so itself
    expect((await convert(at('int8-0'), 'int8-hqq', 'hqq')).notes.join()).toMatch(/inputs of 28 linears/);
  });

  it('says what each format needs to know', () => {
    expect(config('nf4-0').quantization_config).toMatchObject({
      load_in_4bit: true,
      bnb_4bit_quant_type: 'nf4',
      bnb_4bit_use_double_quant: true,
      bnb_4bit_compute_dtype: 'bfloat16',
      llm_int8_skip_modules: ['lm_head'],
    });
    expect(config('mxfp4-0').quantization_config.format).toBe('mxfp4-pack-quantized');
    expect(config('int8-2').quantization_config.format).toBe('int-quantized');
  });

  it.each([
    ['hqq', 'compressed-tensors', /between codes/],
    ['hqq', 'gptq', /between codes/],
    ['hqq', 'onnx', /between codes/],
    ['nf4', 'compressed-tensors', /layout/],
    ['nf4', 'hqq', /layout/],
    ['gptq', 'bitsandbytes', /width/],
    ['int8', 'gptq', /scales of this format/],
  ] as const)('%s is refused by %s, nothing is written', async (from, target, message) => {
    await expect(convert(at(from), 'no', target)).rejects.toMatchObject({
      code: 'export/unsupported',
      message: expect.stringMatching(message),
    });
    expect(existsSync(at('no'))).toBe(false);
  });

  it('one kind of weights in bitsandbytes', async () => {
    await store('both', (w, tensor) => encodeTable4(tensor.includes('mlp') ? 'nf4' : 'fp4', w, { blockSize: 64 }));
    await expect(convert(at('both'), 'no', 'bitsandbytes')).rejects.toThrow(/one kind/);
  });

  it('blocks of GGUF that are uniform integers', async () => {
    await quantize('q8.gguf', 'gguf:q8_0', { bits: 8, groupSize: 32, symmetric: true });
    const before = await valuesOf(at('q8.gguf'));
    const proj = new Set([...before].filter(([name]) => /ffn/.test(name)).map(([, value]) => value));
    for (const target of ['compressed-tensors', 'hqq', 'auto-round'] as const) {
      await convert(at('q8.gguf'), `q8-${target}`, target);
      const after = new Set((await valuesOf(at(`q8-${target}`))).values());
      for (const value of proj) expect(after.has(value), target).toBe(true);
    }
    const { changes } = await convert(at('q8.gguf'), 'q8-onnx', 'onnx');
    expect(changes.filter((c) => c.to === 'MatMulNBits')).toHaveLength(28);
    expect(existsSync(join(at('q8-onnx'), 'onnx', 'model_quantized.onnx'))).toBe(true);
  });
});
