// The commands as people run them, on lmq-nano.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { passkey } from '@lmq/nano';
import { describe, expect, it } from 'vitest';
import { listing, lmq, scratch } from './_lmq.js';

const dir = scratch();
const path = (name: string) => join(dir, name);
async function ok(...args: string[]) {
  const r = await lmq([...args, '--json', '--quiet']);
  expect({ code: r.code, stderr: r.stderr }).toEqual({ code: 0, stderr: '' });
  return r.json() as unknown as Record<string, never>;
}

describe('inspect', () => {
  it('lists every tensor', async () => {
    const r = await ok('inspect', 'lmq-nano');
    expect(r).toMatchObject({
      format: 'safetensors',
      parameters: 2048 * 256 + 4 * (2 * 256 * 256 + 2 * 64 * 256 + 3 * 640 * 256 + 2 * 256) + 256,
      warnings: [],
    });
    expect(r.tensors).toHaveLength(38);
  });
  it('prints a table for people', async () => {
    const { stdout } = await lmq(['inspect', 'lmq-nano']);
    expect(stdout).toContain('model.layers.3.mlp.down_proj.weight');
    expect(stdout).toContain('256 × 640');
  });
});

describe('quantize, eval and generate', () => {
  it('GPTQ into an lmq folder that loads back', async () => {
    const q = await ok('quantize', 'lmq-nano', '-o', path('q4'), '--bits', '4', '--group-size', '64', '--samples', '8');
    expect(q).toMatchObject({ method: 'gptq', bitsPerWeight: 4.3125, variant: 'wasm-simd128' });
    expect(q.layers).toHaveLength(28);
    expect(listing(path('q4'))).toEqual(
      expect.arrayContaining(['config.json', 'lmq.json', 'lmq-report.json', 'model.safetensors', 'tokenizer.json']),
    );
    expect(listing(dir).filter((f) => f.startsWith('.'))).toEqual([]); // no working folder left

    const e = await ok(
      'eval',
      path('q4'),
      '--windows',
      '4',
      '--against',
      'lmq-nano',
      '--text',
      fileURLToPath(new URL('../../nano/data/validation.txt', import.meta.url)),
    );
    expect(e).toMatchObject({ tokens: 4 * 511, context: 512, bitsPerWeight: 4.3125 });
    expect(e.kl).toBeGreaterThan(0.001);
    expect(e.kl).toBeLessThan(0.15);
    expect(e.top1).toBeGreaterThan(0.75);
    const file = readFileSync(join(path('q4'), 'model.safetensors')).length;
    expect(file - (e.bytes as number)).toBeLessThan(20_000); // the header

    const g = await ok('generate', path('q4'), '--prompt', 'It was a dark and stormy night, and the', '-n', '12');
    expect(g.ids).toHaveLength(12);
  });

  it('overrides and skips', async () => {
    const q = await ok(
      'quantize',
      'lmq-nano',
      '-o',
      path('mixed'),
      '--method',
      'rtn',
      '--bits',
      '3',
      '--override',
      '*down_proj:bits=8,group-size=32',
      '--skip',
      '*.layers.0.*',
    );
    const layers = q.layers as unknown as { name: string; bits: number; groupSize: number }[];
    expect(layers).toHaveLength(21);
    expect(layers.filter((l) => l.bits === 8 && l.groupSize === 32)).toHaveLength(3);
    expect(layers.every((l) => !l.name.includes('.layers.0.'))).toBe(true);
    const i = await ok('inspect', path('mixed'));
    const formats = new Map((i.tensors as unknown as { name: string; format: string }[]).map((t) => [t.name, t.format]));
    expect(formats.get('model.layers.0.mlp.down_proj.weight')).toBe('bf16');
    expect(formats.get('model.layers.1.mlp.down_proj.weight')).toContain('8-bit');
  });

  it('a recipe file does what the flags do, byte for byte', async () => {
    const recipe = path('recipe.json');
    writeFileSync(
      recipe,
      JSON.stringify({ stages: [{ method: 'gptq', bits: 3, groupSize: 128, symmetric: true }], calibration: { samples: 4 } }),
    );
    await ok('quantize', 'lmq-nano', '-o', path('by-recipe'), '--recipe', recipe);
    await ok('quantize', 'lmq-nano', '-o', path('by-flags'), '--bits', '3', '--group-size', '128', '--symmetric', '--samples', '4');
    const weights = (name: string) => readFileSync(join(path(name), 'model.safetensors'));
    expect(weights('by-recipe').equals(weights('by-flags'))).toBe(true);
  });

  it('true-sequential calibration shows later linears of a block the quantized earlier ones', async () => {
    const losses = async (name: string, ...flags: string[]) => {
      const q = await ok('quantize', 'lmq-nano', '-o', path(name), '--bits', '2', '--group-size', '32', '--samples', '4', ...flags);
      return (q.layers as unknown as { name: string; loss: number }[]).map((l) => l.loss);
    };
    const plain = await losses('plain');
    const sequential = await losses('sequential', '--true-sequential');
    expect(sequential.slice(0, 3)).toEqual(plain.slice(0, 3)); // q, k, v of the first block see the same inputs
    expect(sequential[3]).not.toBe(plain[3]); // o already sees what quantized q, k, v do
  });

  it('GGUF and back: the same weights, within half precision', async () => {
    await ok('quantize', 'lmq-nano', '-o', path('f16.gguf'), '--method', 'none', '--export', 'gguf:f16');
    const a = await ok(
      'eval',
      path('f16.gguf'),
      '--text',
      fileURLToPath(new URL('../../nano/data/validation.txt', import.meta.url)),
      '--windows',
      '2',
    );
    const b = await ok('eval', 'lmq-nano', '--windows', '2');
    expect(Math.abs((a.perplexity as number) / (b.perplexity as number) - 1)).toBeLessThan(1e-4);
  });

  it('passkey', async () => {
    const e = await ok('eval', 'lmq-nano', '--windows', '1', '--passkey', fileURLToPath(passkey));
    expect(e.passkey).toBe(1);
  });

  it('token ids as text are used as they are', async () => {
    writeFileSync(
      path('ids.json'),
      JSON.stringify([
        [0, 5, 9, 300, 41],
        [7, 8, 9],
      ]),
    );
    expect(await ok('eval', 'lmq-nano', '--text', path('ids.json'))).toMatchObject({ tokens: 4 + 2 });
  });
});

describe('compare', () => {
  it('measures every method and width against the original', async () => {
    const rows = (await ok(
      'compare',
      'lmq-nano',
      '--methods',
      'rtn,gptq',
      '--bits',
      '4,2',
      '--group-size',
      '64',
      '--windows',
      '2',
      '--samples',
      '8',
    )) as unknown as Record<string, number>[];
    expect(rows.map((r) => [r.method, r.bits])).toEqual([
      ['original', undefined],
      ['rtn', 4],
      ['rtn', 2],
      ['gptq', 4],
      ['gptq', 2],
    ]);
    const kl = rows.map((r) => r.kl!);
    expect(kl[0]).toBe(0);
    expect(kl[3]).toBeLessThan(kl[1]!); // GPTQ beats rounding at both widths
    expect(kl[4]).toBeLessThan(kl[2]!);
    expect(kl[1]).toBeLessThan(kl[2]!);
  });
});
