// Every way of going wrong: its exit code, a message that says what to do, and nothing half-written.
import { execFileSync } from 'node:child_process';
import { mkdirSync, openSync, readFileSync, readSync, rmSync, symlinkSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openSafetensors, type TensorToWrite } from '@lmq/checkpoints';
import { fileSource, writeShards } from '@lmq/checkpoints/node';
import { beforeEach, describe, expect, it } from 'vitest';
import { editJson, listing, lmq, nanoCopy, scratch, spawnLmq } from './_lmq.js';

const dir = scratch();
const out = join(dir, 'out');
const validation = fileURLToPath(new URL('../../nano/data/validation.txt', import.meta.url));
const quantize = (model: string, ...args: string[]) =>
  lmq(['quantize', model, '-o', join(out, 'result'), '--method', 'rtn', '--json', '--quiet', ...args]);

beforeEach(() => {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out);
});

/** Runs, and expects this exit code, this error code and all these words in the message, and an empty output folder. */
async function expectFailure(run: ReturnType<typeof lmq>, exit: number, code: string, words: string[]) {
  const r = await run;
  expect({ exit: r.code, stderr: r.stderr }).toEqual({ exit, stderr: expect.stringContaining('error') });
  const { error } = r.json();
  expect(error?.code).toBe(code);
  for (const w of words) expect(error?.message).toContain(w);
  expect(listing(out)).toEqual([]);
}

/** Where a tensor's bytes begin in a safetensors file. */
function dataOffset(path: string, tensor: string): number {
  const file = openSync(path, 'r');
  const length = Buffer.alloc(8);
  readSync(file, length, 0, 8, 0);
  const header = Buffer.alloc(Number(length.readBigUInt64LE()));
  readSync(file, header, 0, header.length, 8);
  return 8 + header.length + JSON.parse(header.toString())[tensor].data_offsets[0];
}

describe('bad input', () => {
  it('missing model, as a process too', async () => {
    await expectFailure(quantize(join(dir, 'nowhere')), 3, 'file/missing', ['nowhere']);
    const args = ['quantize', join(dir, 'nowhere'), '-o', join(out, 'result'), '--method', 'rtn', '--json', '--quiet'];
    await expectFailure(spawnLmq(args), 3, 'file/missing', ['nowhere']);
  });

  it('missing shard', async () => {
    const model = nanoCopy(dir, 'sharded');
    const whole = join(model, 'model.safetensors');
    const source = await openSafetensors(await fileSource(whole));
    const tensors: TensorToWrite[] = [...source.tensors.values()].map((t) => ({
      name: t.name,
      shape: t.shape,
      dtype: 'BF16',
      bytes: () => source.readBytes(t.name),
    }));
    rmSync(whole);
    await writeShards(model, tensors, { maxShardBytes: 2e6 });
    await source.close();
    expect((await lmq(['inspect', model, '--json'])).code).toBe(0); // the shards are fine …
    const shard = listing(model).find((f) => f.startsWith('model-00002'))!;
    rmSync(join(model, shard)); // … until one is gone
    await expectFailure(quantize(model), 3, 'file/missing', [shard]);
  });

  it('truncated file', async () => {
    const model = nanoCopy(dir, 'truncated');
    truncateSync(join(model, 'model.safetensors'), 3_000_000);
    await expectFailure(quantize(model), 3, 'file/truncated', ['model.safetensors', '3000000']);
  });

  it.skipIf(process.platform === 'win32')('a pipe in the place of a file, which may never end', async () => {
    const model = nanoCopy(dir, 'pipe');
    rmSync(join(model, 'config.json'));
    execFileSync('mkfifo', [join(model, 'config.json')]);
    await expectFailure(quantize(model), 3, 'file/format', ['config.json', 'not a regular file']);
  });

  it('unknown architecture', async () => {
    const model = nanoCopy(dir, 'unknown');
    editJson(join(model, 'config.json'), (c) => {
      c.model_type = 'mamba';
      c.architectures = ['MambaForCausalLM'];
    });
    await expectFailure(quantize(model), 3, 'model/unsupported', ['mamba', 'llama']);
  });

  it('NaN weights', async () => {
    const model = nanoCopy(dir, 'nan');
    const file = join(model, 'model.safetensors');
    const name = 'model.layers.2.mlp.up_proj.weight';
    const at = dataOffset(file, name);
    writeSync(openSync(file, 'r+'), new Uint8Array([0xc0, 0x7f]), 0, 2, at + 20);
    await expectFailure(quantize(model), 3, 'argument/value', [name, 'NaN']);
    const seen = (await lmq(['inspect', model, '--values', '--json', '--quiet'])).json() as unknown as { warnings: string[] };
    expect(seen.warnings.join()).toContain(`${name}: 1 values are NaN`);
  });

  it('NaN weights, with another policy: said once for each tensor, in the result too', async () => {
    const model = nanoCopy(dir, 'nan-allowed');
    const file = join(model, 'model.safetensors');
    const name = 'model.layers.2.mlp.up_proj.weight';
    writeSync(openSync(file, 'r+'), new Uint8Array([0xc0, 0x7f]), 0, 2, dataOffset(file, name) + 20);
    const nonFinite = [{ tensor: name, file, count: 1 }];
    const short = ['--calibration', validation, '--samples', '2', '--seq-len', '64'];
    const zero = async (command: string, ...args: string[]) => {
      const r = await lmq([command, model, '--json', '--non-finite', 'zero', ...args]);
      expect(r.code).toBe(0);
      expect(r.stderr.match(/warning: .*up_proj.*1 values that are NaN or infinite; zeros stand for them/g)).toHaveLength(1);
      return r.json() as unknown as Record<string, unknown>;
    };
    expect(await zero('quantize', '-o', join(out, 'result'), '--method', 'rtn')).toMatchObject({ nonFinite });
    const evaluated = await zero('eval', '--windows', '1', '--text', validation);
    expect(evaluated).toMatchObject({ nonFinite, perplexity: expect.any(Number) });
    expect(await zero('calibrate', '-o', join(out, 'statistics'), ...short)).toMatchObject({ nonFinite });
    expect(await zero('generate', '--prompt', 'It was', '-n', '2')).toMatchObject({ nonFinite });
    const rows = await zero('compare', '--methods', 'rtn', '--windows', '1', '--text', validation);
    expect(rows).toMatchObject([{ nonFinite, perplexity: evaluated.perplexity }, { method: 'rtn' }]);
    const text = ['--windows', '1', '--text', validation];
    rmSync(join(out, 'result'), { recursive: true });
    rmSync(join(out, 'statistics'));
    const refused = [
      ['calibrate', model, '-o', join(out, 'statistics'), ...short],
      ['eval', model, ...text],
      ['generate', model, '--prompt', 'It was'],
      ['compare', model, '--methods', 'rtn', ...text],
    ];
    for (const args of refused) await expectFailure(lmq([...args, '--json', '--quiet']), 3, 'argument/value', [name, 'NaN']);
    const warned = await lmq(['eval', model, ...text, '--json', '--non-finite', 'warn']);
    expect(warned.code).toBe(3); // every token meets this one
    expect(warned.stderr).toMatch(/up_proj.*they are used as they are/);
    expect(warned.json().error?.message).toContain('not finite');
    await expectFailure(quantize(model, '--non-finite', 'ignore'), 2, 'argument/option', ['error, warn, zero']);
  });

  it('group size that does not divide', () =>
    expectFailure(quantize('lmq-nano', '--group-size', '96'), 2, 'argument/option', ['96', '128', '-1', 'q_proj']));

  it('calibration text shorter than one window', async () => {
    const text = join(dir, 'short.txt');
    writeFileSync(text, 'Too short to learn from.');
    await expectFailure(quantize('lmq-nano', '--method', 'gptq', '--calibration', text), 3, 'calibration/short', [
      '1024',
      'Give more text',
    ]);
  });

  it('calibration ids of another vocabulary', async () => {
    const ids = join(dir, 'ids.json');
    writeFileSync(ids, '[[1, 2, 99999]]');
    await expectFailure(quantize('lmq-nano', '--method', 'gptq', '--calibration', ids), 3, 'file/format', ['99999', '2048']);
  });

  it('existing output', async () => {
    writeFileSync(join(out, 'result'), 'precious');
    const r = await quantize('lmq-nano');
    expect(r.code).toBe(2);
    expect(r.json().error).toMatchObject({ code: 'file/exists', message: expect.stringContaining('--force') });
    expect(listing(out)).toEqual(['result']);
    expect(readFileSync(join(out, 'result'), 'utf8')).toBe('precious');
    const forced = await quantize('lmq-nano', '--export', 'gguf:f32', '--force');
    expect(forced.stderr).toBe('');
    expect(forced.code).toBe(0);
    expect(readFileSync(join(out, 'result')).subarray(0, 4).toString()).toBe('GGUF');
  });

  it('an export that cannot hold the result', async () => {
    await expectFailure(quantize('lmq-nano', '--bits', '3', '--export', 'gguf:q4_0'), 2, 'export/unsupported', ['bits 3', 'bits 4', 'lmq']);
    await expectFailure(quantize('lmq-nano', '--export', 'gguf:f16'), 2, 'export/unsupported', ['gguf:f32']);
  });

  it('options of other methods with llama.cpp’s types, and importances of another model', async () => {
    const ggml = (...args: string[]) =>
      lmq(['quantize', 'lmq-nano', '-o', join(out, 'x.gguf'), '--export', 'gguf:q4_k_m', '--json', '--quiet', ...args]);
    await expectFailure(ggml('--bits', '4'), 2, 'argument/option', ['bits', 'ggml']);
    await expectFailure(ggml('--method', 'rtn'), 2, 'export/unsupported', ['gguf:q4_k_m', 'ggml']);
    const file = join(out, '..', 'importance.dat');
    writeFileSync(file, 'GGUF is not what this is');
    await expectFailure(ggml('--importance', file), 3, 'file/format', ['importance.dat']);
    writeFileSync(
      file,
      Uint8Array.of(1, 0, 0, 0, 19, 0, 0, 0, ...new TextEncoder().encode('blk.0.attn_q.weight'), 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 128, 63),
    );
    await expectFailure(ggml('--importance', file), 3, 'argument/value', ['another model', 'blk.0.attn_q.weight', 'importance.dat']);
  });

  it('an override that matches nothing', () =>
    expectFailure(quantize('lmq-nano', '--skip', 'lm_hed'), 2, 'argument/option', ['lm_hed', 'model.layers.0']));

  it('a quantized model', async () => {
    expect((await quantize('lmq-nano')).code).toBe(0);
    const again = await lmq(['quantize', join(out, 'result'), '-o', join(out, 'again'), '--method', 'rtn', '--json', '--quiet']);
    expect(again.code).toBe(3);
    expect(again.json().error?.message).toContain('already quantized');
    expect(listing(out)).toEqual(['result']);
  });

  it('statistics of another model, or of the original model where the quantized prefix is asked for', async () => {
    const file = join(dir, 'statistics.safetensors');
    expect((await lmq(['calibrate', 'lmq-nano', '-o', file, '--samples', '2', '--json', '--quiet'])).code).toBe(0);
    const gptq = (model: string, ...flags: string[]) => quantize(model, '--method', 'gptq', '--statistics', file, ...flags);
    await expectFailure(gptq('lmq-nano-moe'), 3, 'argument/value', ['another architecture', 'mixtral', 'lmq calibrate']);
    const tuned = nanoCopy(dir, 'tuned');
    const weights = join(tuned, 'model.safetensors');
    const name = 'model.layers.1.mlp.up_proj.weight';
    writeSync(openSync(weights, 'r+'), new Uint8Array([0x11, 0x3d]), 0, 2, dataOffset(weights, name) + 256 * 640);
    await expectFailure(gptq(tuned), 3, 'argument/value', ['another model', 'lmq calibrate']);
    await expectFailure(gptq('lmq-nano', '--true-sequential'), 2, 'argument/option', ['trueSequential', 'original model']);
    await expectFailure(gptq('lmq-nano', '--gptaq'), 2, 'argument/option', ['gptaq', 'original model']);
    await expectFailure(gptq('lmq-nano', '--samples', '3'), 2, 'argument/option', ['--statistics', '--samples']);
    writeFileSync(file, readFileSync(file).subarray(0, 100_000));
    await expectFailure(gptq('lmq-nano'), 3, 'file/truncated', ['statistics.safetensors']);
    await expectFailure(quantize('lmq-nano', '--method', 'gptq', '--statistics', weights), 3, 'file/format', [
      'no statistics',
      'lmq calibrate',
    ]);
  });

  it('flags of one backend with another, and choices that there are not', async () => {
    await expectFailure(quantize('lmq-nano', '--backend', 'js', '--kernel', 'simd128'), 2, 'argument/option', ['--kernel', '--backend js']);
    await expectFailure(quantize('lmq-nano', '--backend', 'js', '--threads', '2'), 2, 'argument/option', ['--threads', '--backend js']);
    await expectFailure(quantize('lmq-nano', '--clip', 'clip'), 2, 'argument/option', ['minmax, mse, imatrix, percentile, kl']);
    await expectFailure(quantize('lmq-nano', '--gptaq', '1.5'), 2, 'argument/option', ['gptaq', '1.5']);
    await expectFailure(quantize('lmq-nano', '--static-groups', 'sorted'), 2, 'argument/option', ['ordered']);
    const gptq = (...flags: string[]) => quantize('lmq-nano', '--method', 'gptq', '--samples', '1', ...flags);
    await expectFailure(gptq('--foem', '--gptaq'), 2, 'argument/option', ['gptaq and foem exclude each other']);
    await expectFailure(gptq('--min-tokens', '-1'), 2, 'argument/option', ['minTokens', '-1']);
    await expectFailure(gptq('--include', 'embed_tokens'), 2, 'argument/option', ['include', 'lm_head']);
    await expectFailure(gptq('--static-groups', 'ordered'), 2, 'argument/option', ['needs actOrder']);
    await expectFailure(gptq('--trits', '--bits', '3'), 2, 'argument/option', ['stored in 2 bits']);
    await expectFailure(gptq('--fallback', 'mode'), 2, 'argument/option', ['strategy', 'midpoint']);
    await expectFailure(gptq('--fallback', 'mean,best'), 2, 'argument/option', ['smooth.method', 'percentile']);
    await expectFailure(gptq('--fallback', 'mean,mad,log'), 2, 'argument/option', ['at most one smoother']);
    await expectFailure(gptq('--skip', 're:('), 2, 'argument/option', ['not a regular expression']);
  });

  it('usage', async () => {
    const r = await lmq(['quantize', 'lmq-nano', '--method', 'rtn', '--json']);
    expect(r.code).toBe(2);
    expect(r.json().error?.message).toContain('--output');
    expect((await spawnLmq(['quantise'])).code).toBe(2);
    expect((await spawnLmq(['--help'])).code).toBe(0);
  });

  it('a quality gate', async () => {
    const r = await spawnLmq(['eval', 'lmq-nano', '--windows', '1', '--max-perplexity', '5', '--quiet']);
    expect(r.code).toBe(4);
    expect(r.stderr).toContain('perplexity is above the bound');
  });

  it('Ctrl-C in the middle of the work: no output, and the same command goes on', async () => {
    const args = ['quantize', 'lmq-nano', '-o', join(out, 'result'), '--method', 'gptq', '--samples', '16', '--json'];
    let asked = false;
    const r = await spawnLmq(args, (stderr, kill) => {
      if (asked || !stderr.includes('calibrate block 2')) return;
      asked = true;
      kill('SIGINT');
    });
    expect(asked).toBe(true);
    expect(r.code).toBe(130);
    expect(r.json().error?.code).toBe('interrupted');
    expect(listing(out)).toEqual(['.result.lmq-work']);
    const other = await lmq([...args, '--bits', '3', '--quiet']);
    expect(other.code).toBe(2);
    expect(other.json().error?.message).toMatch(/for another recipe.*--restart/);
    const again = await lmq([...args, '--quiet']);
    expect(again.stderr).toBe('');
    expect(again.json()).toMatchObject({ resumedBlocks: 2 });
    expect(listing(out)).toEqual(['result']);
  });

  it('Ctrl-C while calibrating: no file, and the same command goes on', async () => {
    const args = ['calibrate', 'lmq-nano', '-o', join(out, 'statistics'), '--samples', '16', '--json'];
    let asked = false;
    const r = await spawnLmq(args, (stderr, kill) => {
      if (asked || !stderr.includes('calibrate block 2')) return;
      asked = true;
      kill('SIGINT');
    });
    expect(asked).toBe(true);
    expect(r.code).toBe(130);
    expect(listing(out)).toEqual(['.statistics.lmq-work']);
    expect((await lmq([...args, '--quiet'])).json()).toMatchObject({ resumedBlocks: 2, inputs: 16 });
    expect(listing(out)).toEqual(['statistics']);
  });
});

describe('output that nobody reads', () => {
  /** The command with stdout closed before it writes. */
  const unread = (args: string[]) => spawnLmq(args, undefined, (child) => child.stdout.destroy());
  it.each([
    [['inspect', 'lmq-nano']],
    [['inspect', 'lmq-nano', '--json']],
    [['generate', 'lmq-nano', '--prompt', 'It was', '--max-tokens', '1000', '--quiet']], // which stops
    [['--help']],
  ])('%j ends quietly', async (args) => {
    expect(await unread(args)).toMatchObject({ code: 0, stdout: '', stderr: '' });
  });
  it('a failure stays one', async () => {
    const r = await unread(['verify', join(dir, 'nowhere'), '--json']);
    expect(r).toMatchObject({ code: 3, stderr: expect.stringContaining('nowhere') });
    expect(r.stderr).not.toContain('EPIPE');
  });
  it('nobody reads what is said on the side, and the work goes on', async () => {
    const r = await spawnLmq(['quantize', 'lmq-nano', '-o', join(out, 'result'), '--method', 'rtn'], undefined, (child) =>
      child.stderr.destroy(),
    );
    expect(r).toMatchObject({ code: 0, stdout: expect.stringContaining('bits per weight') });
  });
});

describe('a recipe that cannot be read', () => {
  const run = (recipe: string) => lmq(['quantize', 'lmq-nano', '-o', join(out, 'result'), '--recipe', recipe, '--json', '--quiet']);
  it('missing', () => expectFailure(run(join(dir, 'none.json')), 3, 'file/missing', ['none.json']));
  it('a file for a folder', () => expectFailure(run(join(validation, 'r.json')), 3, 'file/missing', ['r.json']));
  it('a folder', () => expectFailure(run(dir), 3, 'file/format', [dir.slice(-8), 'not a regular file']));
  it.skipIf(process.platform === 'win32')('a loop of links', async () => {
    symlinkSync('loop.json', join(dir, 'loop.json'));
    await expectFailure(run(join(dir, 'loop.json')), 1, 'file/io', ['loop.json', 'ELOOP']);
  });
});
