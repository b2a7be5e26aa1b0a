import { guardNonFinite } from '@lmq/checkpoints';
import { decode, dense } from '@lmq/formats';
import { jsBackend } from '@lmq/kernels-js';
import { type Affine, type Backend, type Blocks, type LoadedLinear, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { type Architecture, blockForward, loadBlock, loadModel, loadRope, parseHfConfig } from '../src/index.js';
import { familyCheckpoint, readCase } from './_families.js';
import { openNano, patched } from './_support.js';

const Q = 'model.layers.1.self_attn.q_proj';
const floats = (n: number, value = 0.5) => new Float32Array(n).fill(value);
const load = async (patches: Parameters<typeof patched>[1], layer = 1, name: 'lmq-nano' | 'lmq-nano-moe' = 'lmq-nano') => {
  const { checkpoint, architecture } = await openNano(name);
  return loadBlock(patched(checkpoint, patches), architecture, layer, jsBackend());
};

describe('loadBlock', () => {
  it('holds every site of its layer, stored weights included', async () => {
    const { checkpoint, architecture } = await openNano('lmq-nano-moe');
    const block = await loadBlock(checkpoint, architecture, 2, jsBackend());
    const names = architecture.sites.filter((s) => s.layer === 2).map((s) => s.name);
    expect([...block.linears.keys()]).toEqual(names);
    expect(names.length).toBe(4 + 1 + 8 * 3);
    expect(block.at('down', 7).linear.weight.shape).toEqual([128, 256]);
    expect(() => block.at('down')).toThrow(expect.objectContaining({ code: 'argument/option' }));
    block.dispose();
  });

  it('names a missing tensor', async () => {
    await expect(load({ [`${Q}.weight`]: null })).rejects.toMatchObject({ code: 'model/missing', facts: { tensor: `${Q}.weight` } });
  });

  it('names a tensor of the wrong shape, with both shapes', async () => {
    const wrong = dense('fp32', floats(255 * 256), 255, 256);
    await expect(load({ [`${Q}.weight`]: wrong })).rejects.toMatchObject({
      code: 'model/config',
      facts: { tensor: `${Q}.weight`, expected: '[256, 256]', found: '[255, 256]' },
    });
    const norm = { ...dense('fp32', floats(255), 1, 255), stored: [255] };
    await expect(load({ 'model.layers.1.input_layernorm.weight': norm })).rejects.toMatchObject({ code: 'model/config' });
    // a reader whose data is not what its header says
    const lying = { ...dense('fp32', floats(255 * 256), 255, 256), stored: [256, 256] };
    await expect(load({ [`${Q}.weight`]: lying })).rejects.toMatchObject({ code: 'model/config' });
  });

  it('takes NaN and infinity from a checkpoint that was told to pass them on, or zeros for them', async () => {
    const values = floats(256 * 256, 0.5);
    values[7] = Number.NaN;
    const { checkpoint, architecture } = await openNano('lmq-nano');
    const damaged = patched(checkpoint, { [`${Q}.weight`]: dense('fp32', values, 256, 256) });
    for (const [policy, want] of [
      ['warn', Number.NaN],
      ['zero', 0],
    ] as const) {
      const counts: number[] = [];
      const guarded = guardNonFinite(damaged, policy, ({ tensor, count }) => tensor === `${Q}.weight` && counts.push(count));
      const block = await loadBlock(guarded, architecture, 1, jsBackend());
      expect(decode(block.at('q').linear.weight).data[7]).toBe(want);
      expect(counts).toEqual([1]);
      block.dispose();
    }
  });

  it('counts NaN and infinity in every float format, and in scales', async () => {
    const values = floats(256 * 256);
    values[7] = Number.NaN;
    values[8] = Number.NEGATIVE_INFINITY;
    await expect(load({ [`${Q}.weight`]: dense('fp32', values, 256, 256) })).rejects.toMatchObject({
      code: 'argument/value',
      message: expect.stringContaining('2 values that are NaN or infinite'),
      facts: { tensor: `${Q}.weight` },
    });
    for (const [format, bits] of [
      ['fp16', 0x7c00],
      ['bf16', 0xff80],
      ['bf16', 0x7fc0],
    ] as const) {
      const data = new Uint16Array(256 * 256);
      data[256 * 256 - 1] = bits;
      await expect(load({ [`${Q}.weight`]: dense(format, data, 256, 256) })).rejects.toThrow(/holds 1 values/);
    }
    const largest = new Uint16Array(256 * 256).fill(0x7bff); // the largest finite half is fine
    (await load({ [`${Q}.weight`]: dense('fp16', largest, 256, 256) })).dispose();
    const affine: Affine = {
      kind: 'affine',
      shape: [256, 256],
      bits: 4,
      groupSize: 256,
      codes: new Uint8Array(256 * 128),
      scales: { block: [1, 256], format: 'fp32', data: floats(256, Number.POSITIVE_INFINITY) },
    };
    await expect(load({ [`${Q}.weight`]: affine })).rejects.toThrow(/holds 256 values/);
    const blocks: Blocks = { kind: 'blocks', shape: [256, 256], type: 'Q8_0', data: new Uint8Array((256 * 256 * 34) / 32) };
    blocks.data[34 * 3 + 1] = 0x7e;
    await expect(load({ [`${Q}.weight`]: blocks })).rejects.toThrow(/holds 1 values/);
    await expect(
      load({ 'model.layers.1.input_layernorm.weight': { ...dense('fp32', floats(256, Number.NaN), 1, 256), stored: [256] } }),
    ).rejects.toThrow(/holds 256 values/);
  });

  it('frees what it had loaded when a later tensor fails', async () => {
    const { checkpoint, architecture } = await openNano('lmq-nano');
    const inner = jsBackend();
    let alive = 0;
    const backend: Backend = {
      ...inner,
      load(linear): LoadedLinear {
        const loaded = inner.load(linear);
        alive++;
        const free = loaded.dispose.bind(loaded);
        loaded.dispose = () => {
          alive--;
          free();
        };
        return loaded;
      },
    };
    const broken = patched(checkpoint, { 'model.layers.3.mlp.down_proj.weight': null });
    await expect(loadModel({ checkpoint: broken, architecture, backend })).rejects.toMatchObject({ code: 'model/missing' });
    expect(alive).toBe(0);
  });

  it('refuses a bias that the configuration does not declare', async () => {
    const bias = { ...dense('fp32', floats(256), 1, 256), stored: [256] };
    await expect(load({ [`${Q}.bias`]: bias })).rejects.toMatchObject({ code: 'model/unsupported', facts: { tensor: `${Q}.bias` } });
  });

  it('adds a bias that the architecture declares', async () => {
    const { checkpoint, architecture } = await openNano('lmq-nano');
    const bias = { ...dense('fp32', floats(256, 3), 1, 256), stored: [256] };
    const declared: Architecture = {
      ...architecture,
      sites: architecture.sites.map((s) => (s.name === 'model.layers.0.self_attn.o_proj' ? { ...s, bias: 'o.bias' } : s)),
    };
    const backend = jsBackend();
    const zero = { weight: dense('fp32', new Float32Array(256 * 640), 256, 640) };
    const run = async (a: Architecture): Promise<Float32Array> => {
      const block = await loadBlock(patched(checkpoint, { 'o.bias': bias }), a, 0, backend);
      block.setLinear('model.layers.0.mlp.down_proj', zero); // leaves x + o(...) as the block's result
      const rope = loadRope(a, backend, 1);
      const s = backend.scope();
      const x = s.upload(matrix(floats(256, 0.1), 1, 256));
      const { data } = await s.read(await blockForward(s, block, x, { architecture: a, rope }));
      for (const owned of [s, rope, block]) owned.dispose();
      return data;
    };
    const without = await run(architecture);
    const withBias = await run(declared);
    for (let i = 0; i < 256; i++) expect(withBias[i]! - without[i]!).toBeCloseTo(3, 5); // float32 near 3
  });

  it('reads experts out of a stacked tensor', async () => {
    const { checkpoint, architecture } = await openNano('lmq-nano-moe');
    const rows = 256;
    const parts = await Promise.all(
      Array.from({ length: 8 }, (_, e) => checkpoint.read(`model.layers.0.block_sparse_moe.experts.${e}.w1.weight`)),
    );
    const data = new Uint16Array(8 * rows * 128);
    parts.forEach((p, e) => {
      if (p.kind === 'dense') data.set(p.data, e * rows * 128);
    });
    const stacked = { ...dense('bf16', data, 8 * rows, 128), stored: [8, rows, 128] };
    const sites = architecture.sites.map((s) =>
      s.layer === 0 && s.role === 'gate'
        ? { ...s, tensor: 'stack', slice: [s.expert! * rows, (s.expert! + 1) * rows] as [number, number] }
        : s,
    );
    const block = await loadBlock(patched(checkpoint, { stack: stacked }), { ...architecture, sites }, 0, jsBackend());
    for (let e = 0; e < 8; e++) expect(block.at('gate', e).linear.weight).toEqual(parts[e]);
    block.dispose();
  });

  it('checks the shape of a fused tensor as a whole', async () => {
    const golden = readCase('phi3');
    const architecture = parseHfConfig(golden.config, (name) => Object.hasOwn(golden.tensors, name));
    const tensor = 'model.layers.1.self_attn.qkv_proj.weight';
    const short = patched(familyCheckpoint(golden), { [tensor]: dense('fp32', floats(63 * 32), 63, 32) });
    await expect(loadBlock(short, architecture, 1, jsBackend())).rejects.toMatchObject({
      code: 'model/config',
      facts: { tensor, expected: '[64, 32]', found: '[63, 32]' },
    });
  });

  it('knows no layer beyond the last', async () => {
    await expect(load({}, 4)).rejects.toMatchObject({ code: 'argument/option' });
  });
});

describe('blockForward', () => {
  it('leaves its input as it was and refuses a position without a cache', async () => {
    const { checkpoint, architecture } = await openNano('lmq-nano');
    const backend = jsBackend();
    const block = await loadBlock(checkpoint, architecture, 0, backend);
    const rope = loadRope(architecture, backend, 4);
    const s = backend.scope();
    const data = floats(2 * 256, 0.1);
    const x = s.upload(matrix(data, 2, 256));
    await blockForward(s, block, x, { architecture, rope });
    expect([...(await s.read(x)).data]).toEqual([...data]);
    await expect(blockForward(s, block, x, { architecture, rope, position: 1 })).rejects.toMatchObject({ code: 'argument/value' });
    expect(() => loadRope(architecture, backend, 1025)).toThrow(expect.objectContaining({ code: 'argument/option' }));
    s.dispose();
    rope.dispose();
    block.dispose();
  });
});
