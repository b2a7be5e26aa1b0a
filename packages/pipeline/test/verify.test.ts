// Damage of every kind that a check is for, done to a model that is otherwise valid.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lmqManifest, openSafetensors, type TensorToWrite, toLmqTensors, writeImatrix, writeSafetensors } from '@lmq/checkpoints';
import { fileSource, writeFileAtomic } from '@lmq/checkpoints/node';
import { wasmBackend } from '@lmq/kernels-wasm';
import { NANO_MODELS } from '@lmq/nano';
import type { Affine } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convertModel } from '../src/_node/convert-model.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { verifyModel } from '../src/_node/verify-model.js';
import { TENSOR_CHECKS } from '../src/_verify/tensor-checks.js';
import type { ExportName } from '../src/api.js';
import { parseRecipe } from '../src/recipe.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-verify-'));
const at = (name: string) => join(dir, name);
const nano = fileURLToPath(NANO_MODELS['lmq-nano'].folder);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

beforeAll(async () => {
  const backend = await wasmBackend();
  const stages: [string, ExportName, object][] = [
    ['sym', 'gptq', { bits: 4, groupSize: 64, symmetric: true }],
    ['asym', 'gptq:v2', { bits: 4, groupSize: 64 }],
    ['lmq', 'lmq', { bits: 3, groupSize: -1 }],
    ['q8.gguf', 'gguf:q8_0', { bits: 8, groupSize: 32, symmetric: true }],
    ['ct', 'compressed-tensors', { bits: 4, groupSize: 64 }],
    ['bnb', 'bitsandbytes', { bits: 8, symmetric: true }],
    ['hqq', 'hqq', { bits: 3, groupSize: 64 }],
    ['ar', 'auto-round', { bits: 4, groupSize: 64 }],
    ['onnx', 'onnx', { bits: 4, groupSize: 32 }],
  ];
  for (const [name, target, stage] of stages) {
    const model = await openModel('lmq-nano');
    await quantizeModel(model, {
      backend,
      recipe: parseRecipe({ stages: [{ method: 'rtn', ...stage }], export: target }),
      output: at(name),
    });
    await model.close();
  }
  const model = await openModel(at('asym'));
  await convertModel(model, { export: 'gptq:v1', output: at('asym-v1') }); // none of its zero points is 0
  await model.close();
});

/** A copy of a model folder to spoil. */
function copy(from: string, name: string): string {
  cpSync(from, at(name), { recursive: true });
  return at(name);
}

function edit<T>(folder: string, file: string, change: (value: T) => void): void {
  const value = JSON.parse(readFileSync(join(folder, file), 'utf8'));
  change(value);
  writeFileSync(join(folder, file), JSON.stringify(value));
}

/** Changes how a GPTQ folder says that it was quantized, in both places. */
function relabel(folder: string, change: (quantization: Record<string, unknown>) => void): void {
  edit(folder, 'config.json', (c: { quantization_config: Record<string, unknown> }) => change(c.quantization_config));
  edit(folder, 'quantize_config.json', change);
}

/** Writes the tensors of a folder again, changed. */
async function rewrite(folder: string, change: (tensors: TensorToWrite[]) => Promise<TensorToWrite[]> | TensorToWrite[]): Promise<void> {
  const path = join(folder, 'model.safetensors');
  const file = await openSafetensors(await fileSource(path));
  const tensors = await Promise.all(
    [...file.tensors.values()].map(async ({ name, shape }) => {
      const data = new Uint8Array(await file.readBytes(name));
      return { name, shape: [...shape], dtype: file.dtype(name), bytes: () => data };
    }),
  );
  await file.close();
  const changed = await change(tensors);
  await writeFileAtomic(path, (sink) => writeSafetensors(sink, changed, { format: 'pt' }), { force: true });
}

const found = async (name: string) => (await verifyModel(name)).findings.map(({ check, severity, tensor }) => [severity, check, tensor]);
const q = 'model.layers.0.self_attn.q_proj';
const down = 'model.layers.1.mlp.down_proj.weight';

describe('valid models have nothing to find', () => {
  it.each(['sym', 'asym', 'asym-v1', 'lmq', 'q8.gguf', 'ct', 'bnb', 'hqq', 'ar'])('%s', async (name) => {
    const report = await verifyModel(at(name));
    expect(report.findings).toEqual([]);
    expect(report).toMatchObject({ valid: true, tensors: 38 });
    expect(report.bytes).toBeGreaterThan(1e6);
  });
  it('an ONNX file, without what its graph says', async () => {
    expect(await verifyModel(join(at('onnx'), 'onnx', 'model_q4.onnx'))).toMatchObject({ format: 'onnx', valid: true, findings: [] });
  });
  it('built-in models', async () => {
    for (const name of ['lmq-nano', 'lmq-nano-moe']) expect((await verifyModel(name)).findings).toEqual([]);
  });
});

describe('damage', () => {
  it('container: a file that is cut short; a path that is not there is no finding', async () => {
    const folder = copy(nano, 'cut');
    const file = join(folder, 'model.safetensors');
    const bytes = readFileSync(file);
    writeFileSync(file, bytes.subarray(0, bytes.length - 1));
    const report = await verifyModel(folder);
    expect(report).toMatchObject({
      valid: false,
      tensors: 0,
      findings: [{ check: 'container', severity: 'error', offset: bytes.length - 1 }],
    });
    await expect(verifyModel(at('nowhere'))).rejects.toMatchObject({ code: 'file/missing' });
  });

  it('missing, strangers, shapes: all of them are named, and the rest is still read', async () => {
    const folder = copy(nano, 'holes');
    await rewrite(folder, (tensors) => {
      const kept = tensors.filter((t) => t.name !== down && t.name !== 'model.layers.2.input_layernorm.weight');
      const norm = kept.find((t) => t.name === 'model.norm.weight')!;
      norm.shape = [16, 16];
      return [...kept, { ...norm, name: 'extra.weight' }];
    });
    const report = await verifyModel(folder);
    expect(report.findings.map((f) => [f.severity, f.check, f.tensor])).toEqual([
      ['error', 'missing', 'model.layers.2.input_layernorm.weight'],
      ['error', 'missing', down],
      ['warning', 'strangers', 'extra.weight'],
      ['error', 'shapes', 'model.norm.weight'],
    ]);
    expect(report.bytes).toBeGreaterThan(1e6);
  });

  it('head: tied, and another one is stored', async () => {
    const folder = copy(nano, 'head');
    const stray = (change: boolean) =>
      rewrite(folder, (tensors) => {
        const e = tensors.find((t) => t.name === 'model.embed_tokens.weight')!;
        const data = new Uint8Array(e.bytes() as Uint8Array);
        if (change) data[0]! ^= 1;
        return [...tensors.filter((t) => t.name !== 'lm_head.weight'), { ...e, name: 'lm_head.weight', bytes: () => data }];
      });
    await stray(false);
    expect(await found(folder)).toEqual([]);
    await stray(true);
    expect(await found(folder)).toEqual([['warning', 'head', 'lm_head.weight']]);
  });

  it('vocabulary: more tokens than rows', async () => {
    const folder = copy(nano, 'vocab');
    edit(folder, 'tokenizer.json', (t: { added_tokens: unknown[] }) => {
      t.added_tokens.push({
        id: 2048,
        content: '<extra>',
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      });
    });
    expect(await found(folder)).toEqual([['error', 'vocabulary', undefined]]);
  });

  it('labels: zero points of the other version, told by a symmetric file', async () => {
    const folder = copy(at('sym'), 'sym-v2');
    relabel(folder, (q) => {
      q.checkpoint_format = 'gptq_v2';
    });
    const report = await verifyModel(folder);
    expect(report.valid).toBe(false);
    expect(report.findings).toHaveLength(28);
    expect(report.findings[0]).toMatchObject({ check: 'labels', message: expect.stringMatching(/version 1/) });
  });

  it.each([
    ['asym', 'gptq', /"gptq_v2"/],
    ['asym-v1', 'gptq_v2', /"gptq"/],
  ])('labels: zero points of the other version, told by the weights that they make (%s labelled %s)', async (from, label, message) => {
    const folder = copy(at(from), `${from}-label`);
    relabel(folder, (q) => {
      expect(q.checkpoint_format).not.toBe(label);
      q.checkpoint_format = label;
    });
    const { findings, valid } = await verifyModel(folder);
    expect(valid).toBe(false);
    expect(findings.filter((f) => f.severity === 'error')).toEqual([
      expect.objectContaining({ check: 'labels', file: 'config.json', message: expect.stringMatching(message) }),
    ]);
  });

  it('labels: asymmetric, and all zero points are in the middle', async () => {
    const folder = copy(at('sym'), 'sym-not');
    relabel(folder, (q) => {
      q.sym = false;
    });
    expect(await found(folder)).toEqual([['warning', 'labels', undefined]]);
  });

  it('labels: two places that say how the model was quantized', async () => {
    const folder = copy(at('sym'), 'sym-twice');
    edit(folder, 'quantize_config.json', (c: Record<string, unknown>) => {
      c.desc_act = true;
    });
    const { findings } = await verifyModel(folder);
    expect(findings).toEqual([
      { check: 'labels', severity: 'error', file: 'quantize_config.json', message: 'desc_act is true here and false in config.json' },
    ]);
  });

  it('labels: a GGUF file that names another type than it has', async () => {
    const bytes = readFileSync(at('q8.gguf'));
    const key = bytes.indexOf('general.file_type') + 'general.file_type'.length + 4;
    expect(bytes.readUInt32LE(key)).toBe(7);
    bytes.writeUInt32LE(15, key);
    writeFileSync(at('named.gguf'), bytes);
    expect((await verifyModel(at('named.gguf'))).findings).toEqual([
      expect.objectContaining({ check: 'labels', severity: 'warning', message: expect.stringMatching(/Q4_K_M, and no tensor is Q4_K/) }),
    ]);
  });

  it('labels: AutoRound files with the other zero points', async () => {
    const folder = copy(at('ar'), 'ar-v1');
    edit(folder, 'config.json', (c: { quantization_config: Record<string, unknown> }) => {
      expect(c.quantization_config.packing_format).toBe('auto_round:gptqmodel');
      c.quantization_config.packing_format = 'auto_round:auto_gptq';
    });
    const { findings } = await verifyModel(folder);
    expect(findings.filter((f) => f.severity === 'error')).toEqual([
      expect.objectContaining({ check: 'labels', message: expect.stringMatching(/packing_format to "auto_round:gptqmodel"/) }),
    ]);
  });

  it.each([
    ['ct', 'ignore'],
    ['bnb', 'llm_int8_skip_modules'],
  ])('labels: floats that are not named in the configuration (%s)', async (from, key) => {
    const folder = copy(at(from), `${from}-floats`);
    const file = await openSafetensors(await fileSource(join(nano, 'model.safetensors')));
    const data = new Uint8Array(await file.readBytes(down));
    const plain = { name: down, shape: [...file.tensors.get(down)!.shape], dtype: file.dtype(down), bytes: () => data };
    await file.close();
    const module = down.replace(/weight$/, '');
    await rewrite(folder, (tensors) => [...tensors.filter((t) => !t.name.startsWith(module)), plain]);
    expect(await found(folder)).toEqual([['warning', 'labels', down]]);
    edit(folder, 'config.json', (c: { quantization_config: Record<string, string[]> }) => {
      c.quantization_config[key] = ['lm_head', down.replace(/\.weight$/, '')];
    });
    expect(await found(folder)).toEqual([]);
  });

  it('scales: largest magnitudes below 0', async () => {
    const folder = copy(at('bnb'), 'bnb-negative');
    await rewrite(folder, (tensors) => {
      (tensors.find((x) => x.name === `${q}.SCB`)!.bytes() as Uint8Array)[3]! |= 0x80;
      return tensors;
    });
    expect(await found(folder)).toEqual([['error', 'scales', `${q}.weight`]]);
  });

  it('importance matrices: sums below 0', async () => {
    const entry = (sum: number) => new Map([['blk.0.attn_q.weight', { sums: Float32Array.of(1, sum), counts: Float32Array.of(1) }]]);
    for (const [name, sum] of [
      ['sound', 2],
      ['unsound', -2],
    ] as const) {
      await writeFileAtomic(at(`${name}.gguf`), (sink) => writeImatrix(sink, { entries: entry(2), datasets: [] }));
      if (sum < 0) {
        const bytes = readFileSync(at(`${name}.gguf`));
        const place = bytes.indexOf(Buffer.from(Float32Array.of(1, 2).buffer));
        bytes.writeFloatLE(sum, place + 4);
        writeFileSync(at(`${name}.gguf`), bytes);
      }
      expect(await found(at(`${name}.gguf`)), name).toEqual(sum < 0 ? [['error', 'data', 'blk.0.attn_q.weight']] : []);
    }
  });

  it('a model in parts, and one that lacks a part', async () => {
    const model = await openModel('lmq-nano');
    await quantizeModel(model, {
      backend: await wasmBackend(),
      recipe: parseRecipe({ export: 'gguf:f16' }),
      output: at('parts.gguf'),
      maxShardBytes: 3e6,
    });
    await model.close();
    const parts = readdirSync(dir).filter((name) => name.startsWith('parts-'));
    expect(parts.length).toBeGreaterThan(1);
    expect(await verifyModel(at(parts[1]!))).toMatchObject({ valid: true, findings: [], tensors: 38 });
    rmSync(at(parts[1]!));
    expect(await verifyModel(at(parts[0]!))).toMatchObject({ valid: false, findings: [{ check: 'container' }] });
  });

  it('finite: NaN in weights, and in the scales of GGUF blocks', async () => {
    const folder = copy(nano, 'nan');
    await rewrite(folder, (tensors) => {
      const t = tensors.find((x) => x.name === down)!;
      const data = t.bytes() as Uint8Array;
      data.set([0xc0, 0x7f], 20);
      return tensors;
    });
    expect(await found(folder)).toEqual([['error', 'finite', down]]);
  });

  it('data: act-order that names no group', async () => {
    const folder = copy(at('sym'), 'order');
    await rewrite(folder, (tensors) => {
      const t = tensors.find((x) => x.name === `${q}.g_idx`)!;
      (t.bytes() as Uint8Array)[0] = 200;
      return tensors;
    });
    expect(await found(folder)).toEqual([['error', 'data', `${q}.weight`]]);
  });

  it('zero points of 0 in version 1', async () => {
    const folder = copy(at('asym-v1'), 'wrapped');
    await rewrite(folder, (tensors) => {
      const t = tensors.find((x) => x.name === `${q}.qzeros`)!;
      (t.bytes() as Uint8Array)[0]! |= 0x0f;
      return tensors;
    });
    expect(await found(folder)).toEqual([['warning', 'zero-points', `${q}.weight`]]);
  });

  it('padding, groups, scales, labels of an lmq folder', async () => {
    const model = await openModel('lmq-nano');
    const tensors: TensorToWrite[] = [];
    const entries: [string, ReturnType<typeof toLmqTensors>['entry']][] = [];
    const weight: Affine = {
      kind: 'affine',
      shape: [640, 256],
      bits: 3,
      groupSize: 64,
      codes: new Uint8Array(640 * 96).fill(0x92), // 2, 2, 2 … with a few others
      scales: { block: [1, 64], format: 'fp16', data: new Uint16Array(640 * 4).fill(0x3000) },
      zeroPoints: new Uint8Array(960).fill(0x24), // 4 where it matters
    };
    const spoiled = new Map<string, Affine>([
      [
        'model.layers.0.mlp.up_proj.weight',
        { ...weight, scales: { ...weight.scales, data: new Uint16Array(640 * 4).fill(0x3000).fill(0, 0, 1) } },
      ],
      [
        'model.layers.1.mlp.up_proj.weight',
        { ...weight, groupIndex: Int32Array.from({ length: 256 }, (_, c) => Math.min(3, Math.floor(c / 60))) },
      ],
    ]);
    for (const [name, info] of model.checkpoint.tensors) {
      const packed = toLmqTensors(name, spoiled.get(name) ?? (await model.checkpoint.read(name)), info.shape);
      entries.push([name, packed.entry]);
      tensors.push(...packed.tensors);
    }
    await model.close();
    const folder = copy(nano, 'ours');
    await writeFileAtomic(join(folder, 'model.safetensors'), (sink) => writeSafetensors(sink, tensors), { force: true });
    writeFileSync(join(folder, 'lmq.json'), lmqManifest(entries));
    expect(await found(folder)).toEqual([
      ['warning', 'scales', 'model.layers.0.mlp.up_proj.weight'],
      ['error', 'groups', 'model.layers.1.mlp.up_proj.weight'],
    ]);
  });
});

describe('the corpus of damaged files', () => {
  const corpus = fileURLToPath(new URL('../../checkpoints/test/corpus/', import.meta.url));
  const expected = JSON.parse(readFileSync(join(corpus, 'expected.json'), 'utf8')) as Record<
    string,
    { code: string | null; offset?: number }
  >;
  it('ends in findings, never in an exception', async () => {
    for (const [name, { code, offset }] of Object.entries(expected)) {
      if (name.endsWith('.dat')) continue; // opens with a model only
      const path = join(corpus, name);
      const part = name.startsWith('split/') ? readdirSync(path)[0]! : '';
      const { findings, valid } = await verifyModel(join(path, part));
      if (code === null && /^(onnx|imatrix)/.test(name)) expect(findings, name).toEqual([]);
      // what lmq does not read is no fault of the file; none of the others has an architecture, so that much is always found
      else expect(findings.length, name).toBeGreaterThan(0);
      if (code === null || code === 'model/unsupported') continue;
      expect(valid, name).toBe(false);
      if (offset !== undefined) expect(findings, name).toContainEqual(expect.objectContaining({ severity: 'error', offset }));
    }
  });
});

describe('checks of one tensor', () => {
  it('padding: bits behind the codes of a row, and behind the zero points', () => {
    const t: Affine = {
      kind: 'affine',
      shape: [2, 5],
      bits: 3,
      groupSize: 5,
      codes: Uint8Array.of(0xff, 0x7f, 0xff, 0x7f),
      scales: { block: [1, 5], format: 'fp16', data: Uint16Array.of(0x3c00, 0x3c00) },
      zeroPoints: Uint8Array.of(0x3f),
    };
    const info = { name: 'w', shape: [2, 5], format: '', bytes: 0, file: 'f' };
    const checks = (x: Affine) => TENSOR_CHECKS.flatMap((check) => check(x, info, 'lmq')?.check ?? []);
    expect(checks(t)).toEqual([]);
    expect(checks({ ...t, codes: Uint8Array.of(0xff, 0x7f, 0xff, 0xff) })).toEqual(['padding']);
    expect(checks({ ...t, zeroPoints: Uint8Array.of(0x7f) })).toEqual(['padding']);
    expect(checks({ ...t, zeroPoints: Uint8Array.of(0x24) })).toEqual(['labels']); // both 4, the middle
  });
});

describe('--against', () => {
  it('errors of every linear, the worst first; q and k of a GGUF file in their own order', async () => {
    const original = await openModel('lmq-nano');
    const q8 = (await verifyModel(at('q8.gguf'), { against: original })).errors!;
    expect(q8).toHaveLength(29);
    expect(q8[0]!.error).toBeLessThan(1e-4);
    const q3 = (await verifyModel(at('lmq'), { against: original })).errors!;
    expect(q3[0]!.error).toBeGreaterThan(0.01);
    expect(q3.map((e) => e.error)).toEqual([...q3.map((e) => e.error)].sort((a, b) => b - a));
    expect(q3.at(-1)).toEqual({ name: 'model.embed_tokens', error: 0 });
    const moe = await openModel('lmq-nano-moe');
    const other = await verifyModel(at('lmq'), { against: moe });
    expect(other).toMatchObject({ valid: false, findings: [{ check: 'against' }] });
    await moe.close();
    await original.close();
  });
});
