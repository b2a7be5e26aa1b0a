// Conversions and checks as people run them, on lmq-nano.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { editJson, listing, lmq, nanoCopy, scratch } from './_lmq.js';

const dir = scratch();
const path = (name: string) => join(dir, name);
async function ok(...args: string[]) {
  const r = await lmq([...args, '--json', '--quiet']);
  expect({ code: r.code, stderr: r.stderr }).toEqual({ code: 0, stderr: '' });
  return r.json() as unknown as Record<string, never>;
}

describe('convert, verify and inspect', () => {
  it('from a GPTQ folder to an AWQ one, and what they are', async () => {
    await ok('quantize', 'lmq-nano', '-o', path('gptq'), '--method', 'rtn', '--group-size', '64', '--symmetric', '--export', 'gptq');
    const c = await ok('convert', path('gptq'), '-o', path('awq'), '--export', 'awq');
    expect(c).toMatchObject({ from: 'gptq', to: 'awq', refused: [] });
    expect(listing(path('awq'))).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    expect(await ok('inspect', path('awq'))).toMatchObject({ format: 'awq', name: 'AWQ GEMM, 4-bit g64 symmetric' });
    const { stdout } = await lmq(['inspect', path('gptq')]);
    expect(stdout).toContain('GPTQ v1, 4-bit g64 symmetric');
    expect(stdout).toMatch(/affine 4-bit g64 +28 +\d/);

    const v = await ok('verify', path('awq'), '--against', 'lmq-nano');
    expect(v).toMatchObject({ valid: true, format: 'awq', tensors: 38 });
    expect(v.errors).toHaveLength(29);
    const gate = await lmq(['verify', path('gptq'), '--against', 'lmq-nano', '--max-error', '1e-6', '--json', '--quiet']);
    expect(gate.code).toBe(4);
    expect(gate.json()).toMatchObject({ valid: true });
    expect((await lmq(['verify', path('gptq'), '--max-error', '1'])).code).toBe(2);
  });

  it('refuses to round; a dry run lists all that does not fit', async () => {
    await ok('quantize', 'lmq-nano', '-o', path('asym'), '--method', 'rtn', '--group-size', '32');
    const r = await lmq(['convert', path('asym'), '-o', path('no.gguf'), '--export', 'gguf:q4_0', '--json', '--quiet']);
    expect(r.code).toBe(2);
    expect(r.json().error).toMatchObject({ code: 'export/unsupported' });
    const dry = await lmq(['convert', path('asym'), '--export', 'gguf:q4_0', '--dry-run', '--quiet']);
    expect(dry.code).toBe(2);
    expect(dry.stdout.match(/^refused: /gm)).toHaveLength(28);
    expect(dry.stdout).toContain('cannot be stored');
    expect(listing(dir)).not.toContain('no.gguf');
    expect((await lmq(['convert', path('asym'), '--export', 'lmq'])).code).toBe(2); // nowhere to write
  });

  it('verify ends with 3 for a damaged model, and names it', async () => {
    const folder = nanoCopy(dir, 'damaged');
    editJson(join(folder, 'config.json'), (c) => {
      c.intermediate_size = 512;
    });
    const r = await lmq(['verify', folder]);
    expect(r.code).toBe(3);
    expect(r.stdout).toMatch(/error shapes: the configuration implies \[512, 256\].*model\.layers\.0\.mlp\.gate_proj\.weight/);
    expect(r.stdout).toMatch(/12 errors/);
  });
});
