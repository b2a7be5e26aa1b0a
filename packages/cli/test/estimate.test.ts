// What `lmq estimate` promises: the size exactly, and an upper bound of memory that is not far off. (Its seconds are compared by hand: tests
// that measure time fail on busy machines.)
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { listing, spawnLmq as lmq, scratch } from './_lmq.js';

const dir = scratch();
async function ok(...args: string[]) {
  const r = await lmq([...args, '--json', '--quiet']);
  expect({ code: r.code, stderr: r.stderr }).toEqual({ code: 0, stderr: '' });
  return r.json() as unknown as Record<string, number>;
}

const STATISTICS = join(dir, 'statistics.safetensors');
beforeAll(async () => {
  await ok('calibrate', 'lmq-nano', '-o', STATISTICS, '--samples', '4');
});

describe('estimate', () => {
  it.each([
    ['lmq-nano', ['--bits', '4', '--group-size', '64', '--samples', '8']],
    ['lmq-nano', ['--bits', '3', '--group-size', '32', '--act-order', '--samples', '4']],
    ['lmq-nano', ['--bits', '3', '--group-size', '32', '--act-order', '--static-groups', 'ordered', '--foem', '--samples', '4']],
    ['lmq-nano', ['--method', 'rtn', '--bits', '5', '--symmetric', '--scale-format', 'fp32', '--skip', '*down_proj']],
    ['lmq-nano', ['--method', 'rtn', '--trits', '--symmetric', '--clip', 'imatrix', '--samples', '4']],
    ['lmq-nano', ['--bits', '3', '--samples', '4', '--gptaq']],
    ['lmq-nano', ['--bits', '4', '--group-size', '64', '--samples', '4', '--gptaq', '1', '--true-sequential', '--act-order']],
    ['lmq-nano-moe', ['--bits', '4', '--samples', '4', '--gptaq']],
    ['lmq-nano-moe', ['--bits', '4', '--samples', '4', '--include', 'lm_head', '--override', 'lm_head:bits=8,groupSize=64']],
    ['lmq-nano', ['--method', 'rtn', '--bits', '8', '--input', 'int8-static', '--samples', '4']],
    ['lmq-nano', ['--bits', '4', '--statistics', STATISTICS]],
    ['lmq-nano', ['--method', 'squeezellm', '--bits', '2', '--samples', '4', '--skip', '*mlp*']],
    ['lmq-nano', ['--method', 'none']],
    ['lmq-nano', ['--method', 'rtn', '--export', 'gguf:q8_0']],
    ['lmq-nano-moe', ['--method', 'rtn', '--export', 'gguf:q4_0', '--include', 'lm_head']],
    ['lmq-nano', ['--export', 'gguf:q4_k_m', '--override', 'lm_head:type=q8_0']],
    ['lmq-nano-moe', ['--export', 'gguf:mxfp4_moe']],
    ['lmq-nano-moe', ['--method', 'gptq', '--bits', '4', '--samples', '4', '--export', 'gguf:f32']],
  ])('%s %j', async (model, flags) => {
    const out = join(dir, `${Math.abs([...JSON.stringify([model, flags])].reduce((h, c) => (h * 31 + c.charCodeAt(0)) | 0, 0))}`);
    const estimate = await ok('estimate', model, ...flags);
    const real = await ok('quantize', model, '-o', out, ...flags);
    expect(estimate.outputBytes).toBe(real.bytes);
    expect(estimate.bitsPerWeight).toBeCloseTo(real.bitsPerWeight!, 12);
    expect(estimate.peakRss).toBeGreaterThanOrEqual(real.peakRss!);
    expect(estimate.peakRss).toBeLessThanOrEqual(1.5 * real.peakRss!);
    expect(estimate.seconds).toBeGreaterThan(0);
  });

  it('of a budget is an upper bound of the size, too', async () => {
    const flags = ['--method', 'rtn', '--budget-bits', '3.6', '--budget-candidates', '3,4,16', '--samples', '2', '--skip', '*k_proj'];
    const estimate = await ok('estimate', 'lmq-nano', ...flags);
    const real = await ok('quantize', 'lmq-nano', '-o', join(dir, 'budget'), ...flags);
    expect(estimate.outputBytes).toBeGreaterThanOrEqual(real.bytes!);
    expect(estimate.outputBytes).toBeLessThanOrEqual(1.005 * real.bytes!);
    expect(estimate.peakRss).toBeGreaterThanOrEqual(real.peakRss!);
    expect(estimate.peakRss).toBeLessThanOrEqual(1.5 * real.peakRss!);
  });

  it('quantize --dry-run prints the same and writes nothing', async () => {
    const before = listing(dir);
    const dry = await ok('quantize', 'lmq-nano', '-o', join(dir, 'dry'), '--bits', '3', '--samples', '4', '--dry-run');
    expect(dry.outputBytes).toBe((await ok('estimate', 'lmq-nano', '--bits', '3', '--samples', '4')).outputBytes);
    expect(listing(dir)).toEqual(before);
  });
});
