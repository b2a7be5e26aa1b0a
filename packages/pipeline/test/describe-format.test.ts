// What models are called, and what is said to be odd about them.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeImatrix } from '@lmq/checkpoints';
import { writeFileAtomic } from '@lmq/checkpoints/node';
import { decode, encodeTable4 } from '@lmq/formats';
import { wasmBackend } from '@lmq/kernels-wasm';
import { afterAll, describe, expect, it } from 'vitest';
import { linearsOf } from '../src/_node/as-hf-model.js';
import { describeFormat } from '../src/_node/describe-format.js';
import { exportFolder } from '../src/_node/export-folder.js';
import { openInspectable } from '../src/_node/inspectable.js';
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

function edit(name: string, change: (quantization: Record<string, unknown>) => void) {
  const file = join(at(name), 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  change(config.quantization_config);
  writeFileSync(file, JSON.stringify(config));
}

describe('describeFormat', () => {
  it.each([
    ['gptq', { bits: 4, groupSize: 64, symmetric: true }, 'GPTQ v1, 4-bit g64 symmetric'],
    ['gptq:v2', { bits: 8, groupSize: -1 }, 'GPTQ v2, 8-bit per row asymmetric'],
    ['awq', { bits: 4, groupSize: 32 }, 'AWQ GEMM, 4-bit g32 asymmetric'],
    ['gguf:q8_0', { bits: 8, groupSize: 32, symmetric: true }, 'GGUF v3, mostly Q8_0'],
    ['lmq', { bits: 3, groupSize: 64 }, 'lmq, mostly affine 3-bit g64 asym'],
    ['compressed-tensors', { bits: 4, groupSize: 64, symmetric: true }, 'compressed-tensors pack-quantized, 4-bit g64 symmetric'],
    ['bitsandbytes', { bits: 8, symmetric: true }, 'bitsandbytes LLM.int8(), 8-bit per row'],
    ['hqq', { bits: 3, groupSize: 64 }, 'HQQ, 3-bit g64, zero points in floating point'],
    ['auto-round', { bits: 4, groupSize: 32, symmetric: true }, 'AutoRound auto_gptq, 4-bit g32 symmetric'],
    ['auto-round:auto_awq', { bits: 4, groupSize: 32 }, 'AutoRound auto_awq, 4-bit g32 asymmetric'],
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

  it('NF4, and a configuration that says otherwise', async () => {
    const model = await openModel('lmq-nano');
    const read = async (name: string) => {
      const t = await model.checkpoint.read(name);
      return name.endsWith('_proj.weight') ? encodeTable4('nf4', decode(t), { blockSize: 64, doubleQuant: true }) : t;
    };
    await exportFolder(
      { ...model.checkpoint, read },
      {
        target: 'bitsandbytes',
        companions: { folder: model.folder!, files: {} },
        linears: linearsOf(model.architecture),
        output: at('nf4'),
      },
    );
    await model.close();
    expect(await described(at('nf4'))).toMatchObject({ name: 'bitsandbytes NF4, blocks of 64, double quantization', quirks: [] });
    edit('nf4', (q) => {
      q.bnb_4bit_quant_type = 'fp4';
      q.bnb_4bit_use_double_quant = false;
    });
    expect((await described(at('nf4'))).quirks).toEqual([
      expect.stringMatching(/quant_type is fp4, and the weights are nf4/),
      expect.stringMatching(/double_quant is false, and scales are quantized/),
    ]);
  });

  it('files that are no models: ONNX, importance matrices', async () => {
    await quantize('onnx', 'onnx', { bits: 4, groupSize: 32 }).catch(() => {}); // only its file opens
    const onnx = await openInspectable(join(at('onnx'), 'onnx', 'model_q4.onnx'));
    expect(onnx.architecture).toBeUndefined();
    expect(await describeFormat(onnx)).toMatchObject({ name: 'ONNX, MatMulNBits 4-bit g32 asym', quirks: [] });
    await onnx.close();
    const entries = new Map([['blk.0.attn_q.weight', { sums: Float32Array.of(1, 2), counts: Float32Array.of(1) }]]);
    await writeFileAtomic(at('imatrix.gguf'), (sink) => writeImatrix(sink, { entries, datasets: ['text'], chunks: 7, chunkSize: 512 }));
    const matrix = await openInspectable(at('imatrix.gguf'));
    expect((await describeFormat(matrix)).name).toBe('importance matrix, GGUF v3, of 7 chunks');
    await matrix.close();
  });

  it('names labels that the data contradicts', async () => {
    edit('gptq', (q) => {
      q.checkpoint_format = 'gptq_v2';
    });
    const { name, quirks } = await described(at('gptq'));
    expect(name).toBe('GPTQ v2, 4-bit g64 symmetric; mislabelled');
    expect(quirks[0]).toMatch(/zero points are those of a symmetric file of version 1/);
  });
});
