// Models stored in other formats: what is written decodes to the same values, or the conversion is refused before anything is written.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openGguf, writeGguf } from '@lmq/checkpoints';
import { fileSource, writeFileAtomic } from '@lmq/checkpoints/node';
import { byteLength, decode, encodeBlocks } from '@lmq/formats';
import { wasmBackend } from '@lmq/kernels-wasm';
import { NANO_MODELS } from '@lmq/nano';
import { beforeAll, describe, expect, it } from 'vitest';
import { convertModel } from '../src/_node/convert-model.js';
import { estimateModel } from '../src/_node/estimate-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { parseRecipe } from '../src/recipe.js';
import { at, config, convert, dir, quantize, valuesOf } from './_convert.js';

const nano = fileURLToPath(NANO_MODELS['lmq-nano'].folder);
const q = 'model.layers.0.self_attn.q_proj.weight';

describe('quantize --export', () => {
  it.each([
    ['gptq', { bits: 4, groupSize: 64, symmetric: true }, { checkpoint_format: 'gptq', sym: true, bits: 4, group_size: 64 }],
    ['gptq:v2', { bits: 3, groupSize: -1, symmetric: true }, { checkpoint_format: 'gptq_v2', bits: 3, group_size: -1 }],
    ['awq', { bits: 4, groupSize: 64 }, { quant_method: 'awq', zero_point: true, group_size: 64 }],
  ] as const)('%s %o: the values of the lmq export, with its files', async (target, stage, says) => {
    const name = target.replace(':', '-');
    const report = await quantize(name, target, stage);
    await quantize(`${name}-lmq`, 'lmq', stage);
    expect(await valuesOf(at(name))).toEqual(await valuesOf(at(`${name}-lmq`)));
    expect(config(name).quantization_config).toMatchObject(says);
    expect(existsSync(join(at(name), 'tokenizer.json'))).toBe(true);
    if (target !== 'awq')
      expect(JSON.parse(readFileSync(join(at(name), 'quantize_config.json'), 'utf8'))).toEqual(config(name).quantization_config);
    expect(report.notes).toEqual([expect.stringMatching(/scales are fp16, and config.json says bf16/)]);
  });

  it('writes version 2 where zero points differ, and says so', async () => {
    const { notes } = await quantize('two', 'gptq', { bits: 2, groupSize: 32 });
    expect(notes).toContainEqual(expect.stringMatching(/gptq_v2.*asymmetric/));
    expect(config('two').quantization_config.checkpoint_format).toBe('gptq_v2');
    const v1 = convert(at('two'), 'two-v1', 'gptq:v1'); // 2 bits: some zero points are 0
    await expect(v1).rejects.toMatchObject({ code: 'export/unsupported', message: expect.stringMatching(/zero point of 0/) });
  });

  it('mixed bits and skipped linears become rules of dynamic', async () => {
    const stage = { bits: 4, groupSize: 64, symmetric: true };
    const overrides = [
      { match: '*.layers.1.mlp.down_proj', bits: 8, groupSize: 32 },
      { match: '*.layers.2.*', skip: true },
    ];
    await quantize('mixed', 'gptq', stage, overrides);
    const { dynamic } = config('mixed').quantization_config;
    expect(dynamic['+:^model\\.layers\\.1\\.mlp\\.down_proj$']).toEqual({ bits: 8, group_size: 32 });
    expect(Object.keys(dynamic).filter((rule) => rule.startsWith('-:'))).toHaveLength(7);
    const model = await openModel(at('mixed'));
    expect(model.checkpoint.tensors.get('model.layers.1.mlp.down_proj.weight')!.format).toBe('affine 8-bit g32');
    expect(model.checkpoint.tensors.get('model.layers.2.mlp.down_proj.weight')!.format).toBe('bf16');
    await model.close();
  });

  it('a quantized head: GPTQ says so, AWQ has none', async () => {
    const stage = { bits: 4, groupSize: 64, symmetric: true };
    await quantize('head', 'gptq', stage, [], 'lmq-nano-moe', ['lm_head']);
    expect(config('head').quantization_config).toMatchObject({
      lm_head: true,
      dynamic: { '-:^model\\.layers\\.0\\.block_sparse_moe\\.gate$': {} },
    });
    const model = await openModel(at('head'));
    expect(model.checkpoint.tensors.get('lm_head.weight')!.format).toBe('affine 4-bit g64');
    await model.close();
    await expect(quantize('never', 'awq', stage, [], 'lmq-nano-moe', ['lm_head'])).rejects.toThrow(/quantized head/);
    const { changes } = await convert(at('head'), 'head-awq', 'awq'); // has it already: decoded, exactly
    expect(changes.find((c) => c.tensor === 'lm_head.weight')).toMatchObject({ to: 'fp32', effect: 'exact' });
    expect(await valuesOf(at('head-awq'))).toEqual(await valuesOf(at('head')));
  });

  it.each([
    ['awq', { bits: 3 }, [], /bits 3/],
    ['awq', { bits: 4, groupSize: 64, method: 'gptq', actOrder: true }, [], /act-order/],
    ['awq', { bits: 4, groupSize: 64 }, [{ match: '*.layers.1.mlp.down_proj', groupSize: 32 }], /groupSize 32 beside 64/],
    ['gptq:v1', { bits: 4 }, [], /asymmetric/],
    ['gptq', { bits: 5 }, [], /bits 5/],
    ['gptq', { bits: 4, scaleFormat: 'fp32' }, [], /fp32 scales/],
    ['gptq', { bits: 4 }, [{ match: '*.layers.1.self_attn.k_proj', bits: 8 }], /fuse/],
    ['gptq', { bits: 4 }, [{ match: '*.layers.1.mlp.up_proj', skip: true }], /fuse.*not quantized/],
  ] as const)('%s refuses %o %o before any work', async (target, stage, overrides, message) => {
    await expect(quantize('never', target, stage, [...overrides])).rejects.toMatchObject({
      code: 'export/unsupported',
      message: expect.stringMatching(message),
    });
    expect(existsSync(at('never'))).toBe(false);
  });

  it('estimates the size exactly', async () => {
    const model = await openModel('lmq-nano');
    for (const [target, name, stage] of [
      ['gptq', 'gptq', { bits: 4, groupSize: 64, symmetric: true }],
      ['awq', 'awq', { bits: 4, groupSize: 64 }],
    ] as const) {
      const recipe = parseRecipe({ stages: [{ method: 'rtn', ...stage }], export: target });
      const written = await openModel(at(name));
      const bytes = [...written.checkpoint.tensors.values()].reduce((n, t) => n + t.bytes, 0);
      await written.close();
      expect((await estimateModel(model, recipe, await wasmBackend())).outputBytes).toBe(bytes);
    }
    await model.close();
  });
});

describe('convert', () => {
  beforeAll(async () => {
    await quantize('g32', 'gptq', { bits: 4, groupSize: 32, symmetric: true });
    const model = await openModel('lmq-nano');
    await quantizeModel(model, { backend: await wasmBackend(), recipe: parseRecipe({ export: 'gguf:f32' }), output: at('plain.gguf') });
    await model.close();
  });

  it('there and back again: gptq → lmq → awq → gptq, the same values', async () => {
    const report = await convert(at('g32'), 'a-lmq', 'lmq');
    expect(report.changes.every((c) => c.effect === 'same')).toBe(true);
    expect(config('a-lmq')).not.toHaveProperty('quantization_config');
    await convert(at('a-lmq'), 'b-awq', 'awq');
    await convert(at('b-awq'), 'c-gptq', 'gptq');
    const before = await valuesOf(at('g32'));
    for (const name of ['a-lmq', 'b-awq', 'c-gptq']) expect(await valuesOf(at(name))).toEqual(before);
    expect(readFileSync(join(at('c-gptq'), 'model.safetensors')).equals(readFileSync(join(at('g32'), 'model.safetensors')))).toBe(true);
    expect(config('c-gptq')).toEqual(config('g32'));
  });

  it('gptq → gguf:q4_0 → gptq: blocks hold the same codes and scales', async () => {
    const { changes } = await convert(at('g32'), 'q4.gguf', 'gguf:q4_0');
    expect(changes.filter((c) => c.effect === 'exact' && c.to === 'Q4_0')).toHaveLength(28);
    const { notes } = await convert(at('q4.gguf'), 'q4-gptq', 'gptq');
    expect(notes).toContainEqual(expect.stringMatching(/made of its key-values/));
    const before = await valuesOf(at('g32'));
    const after = await valuesOf(at('q4-gptq'));
    for (const [name, value] of before) if (name.includes('proj')) expect(after.get(name) === value, name).toBe(true);
  });

  it('a GGUF file of floats back into the folder that it was made of', async () => {
    await convert(at('plain.gguf'), 'back', 'safetensors', { original: nano });
    expect(readFileSync(join(at('back'), 'model.safetensors')).equals(readFileSync(join(nano, 'model.safetensors')))).toBe(true);
    expect(readFileSync(join(at('back'), 'config.json'), 'utf8')).toBe(readFileSync(join(nano, 'config.json'), 'utf8'));
  });

  it('a GGUF file alone: configuration and tokenizer of its key-values', async () => {
    await convert(at('plain.gguf'), 'alone', 'safetensors');
    const made = await openModel(at('alone'));
    const original = await openModel(nano);
    const { warnings: _, ...a } = made.architecture;
    const { warnings: __, ...b } = original.architecture;
    expect(a).toEqual(b);
    const text = 'It was a dark and stormy night; 1234 “quotes”, naïve\n\n  and tabs\t.';
    expect(made.tokenizer!.encode(text)).toEqual(original.tokenizer!.encode(text));
    expect(made.tokenizer!.eos).toEqual(original.tokenizer!.eos);
    await made.close();
    await original.close();
    expect(await valuesOf(at('alone'))).toEqual(await valuesOf(nano)); // float32 holds bf16
  });

  it('experts of a GGUF file become tensors of their own', async () => {
    const moe = fileURLToPath(NANO_MODELS['lmq-nano-moe'].folder);
    await quantize('moe.gguf', 'gguf:q8_0', { bits: 8, groupSize: 32, symmetric: true }, [], moe);
    await quantize('moe-lmq', 'lmq', { bits: 8, groupSize: 32, symmetric: true }, [], moe);
    await convert(at('moe.gguf'), 'moe-gptq', 'gptq');
    const before = await valuesOf(at('moe-lmq'));
    const after = await valuesOf(at('moe-gptq'));
    for (const [name, value] of before) if (/proj|experts/.test(name)) expect(after.get(name) === value, name).toBe(true);
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
  });

  it.each(['Q6_K', 'Q8_0'] as const)('embeddings in %s are decoded, where only linears are quantized', async (type) => {
    await convert(at('g32'), `mixed-${type}.gguf`, 'gguf:q4_0');
    const file = await openGguf(await fileSource(at(`mixed-${type}.gguf`)));
    const tensors = await Promise.all(
      [...file.tensors.values()].map(async ({ name, shape, format }) => {
        const embedding = name === 'token_embd.weight';
        const dtype = embedding ? type : ({ fp32: 'F32', fp16: 'F16' }[format] ?? format);
        const data = embedding ? encodeBlocks(type, decode(await file.read(name))).data : await file.readBytes(name);
        return { name, shape, dtype, bytes: () => data };
      }),
    );
    await writeFileAtomic(at(`${type}.gguf`), (sink) => writeGguf(sink, { metadata: file.entries, tensors }));
    await file.close();
    const { changes } = await convert(at(`${type}.gguf`), `${type}-gptq`, 'gptq');
    const embedding = 'model.embed_tokens.weight';
    expect(changes.find((c) => c.tensor === embedding)).toEqual({
      tensor: embedding,
      from: type,
      to: 'fp32',
      effect: 'exact',
      detail: 'decoded: only linears are quantized in gptq',
    });
    expect((await valuesOf(at(`${type}-gptq`))).get(embedding)).toBe((await valuesOf(at(`${type}.gguf`))).get('token_embd.weight'));
  });

  it('decodes into floats, and says by how much they are rounded', async () => {
    const { changes } = await convert(at('g32'), 'floats', 'safetensors');
    const change = changes.find((c) => c.tensor === q)!;
    expect(change).toMatchObject({ to: 'bf16', effect: 'rounded' });
    expect(change.error).toBeGreaterThan(1e-9);
    expect(change.error).toBeLessThan(2 ** -16); // half a unit of 8 bits, squared
    const model = await openModel(at('floats'));
    expect(byteLength(await model.checkpoint.read(q))).toBe(256 * 256 * 2);
    await model.close();
  });

  it('refuses to round, names what does not fit, and writes nothing', async () => {
    await quantize('asym', 'lmq', { bits: 4, groupSize: 64 });
    await expect(convert(at('asym'), 'no.gguf', 'gguf:q4_0')).rejects.toMatchObject({ code: 'export/unsupported' });
    expect(existsSync(at('no.gguf'))).toBe(false);
    const { refused, changes, bytes } = await convert(at('asym'), 'no.gguf', 'gguf:q4_0', { dryRun: true });
    expect(refused).toHaveLength(28);
    expect(refused[0]!.message).toMatch(/asym/);
    expect(changes.filter((c) => c.effect === 'refused')).toHaveLength(28);
    expect(bytes).toBe(0);
    await expect(convert('lmq-nano', 'no', 'gptq')).rejects.toMatchObject({ code: 'export/unsupported' }); // nothing is quantized
    await expect(convert(at('q4.gguf'), 'no', 'awq', { original: fileURLToPath(NANO_MODELS['lmq-nano-moe'].folder) })).rejects.toThrow();
    await expect(convert(at('g32'), 'g32', 'lmq')).rejects.toMatchObject({ code: 'file/exists' });
    await expect(convert(at('q4.gguf'), 'no.gguf', 'gguf:f32')).rejects.toMatchObject({ code: 'export/unsupported' });
    await convert(at('q4.gguf'), 'yes.gguf', 'gguf:q4_0', { original: nano });
    expect(readFileSync(at('yes.gguf')).equals(readFileSync(at('q4.gguf')))).toBe(false); // the name in its metadata
    expect(await valuesOf(at('yes.gguf'))).toEqual(await valuesOf(at('q4.gguf')));
  });

  it('an interrupted conversion leaves nothing', async () => {
    for (const target of ['awq', 'lmq', 'gguf:q4_0'] as const) {
      const stop = new AbortController();
      const model = await openModel(at('g32'));
      const onProgress = ({ phase, done }: { phase: string; done: number }) => {
        if (phase === 'write' && done > 0) stop.abort(new Error('stop'));
      };
      const before = readdirSync(dir);
      await expect(convertModel(model, { export: target, output: at('stopped'), signal: stop.signal, onProgress })).rejects.toThrow('stop');
      expect(readdirSync(dir)).toEqual(before);
      await model.close();
    }
  });

  it('another model is no original', async () => {
    const other = { ...JSON.parse(readFileSync(join(nano, 'config.json'), 'utf8')), num_hidden_layers: 3 };
    mkdirSync(at('other'));
    writeFileSync(join(at('other'), 'config.json'), JSON.stringify(other));
    await expect(convert(at('plain.gguf'), 'no', 'lmq', { original: at('other') })).rejects.toMatchObject({ code: 'model/config' });
    await expect(convert(at('g32'), 'no', 'lmq', { original: nano })).rejects.toMatchObject({ code: 'argument/option' });
  });
});
