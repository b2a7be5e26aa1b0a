// Options of a stage reach the method: the same bytes as calling it with them.

import { dense } from '@lmq/formats';
import { type GptqOpts, gptqLinear } from '@lmq/gptq';
import { wasmBackend } from '@lmq/kernels-wasm';
import { createHessian, fallbackLinear, rtnLinear } from '@lmq/quant-core';
import { createRng, type Linear, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { Stage } from '../src/api.js';
import { quantizeLinear } from '../src/quantize-linear.js';
import { STAGE_DEFAULTS } from '../src/recipe.js';

const backend = await wasmBackend();
const site = { name: 'a.linear' };
const WIDTH = 64;
const rng = createRng(7);
const normal = (n: number) => Float32Array.from({ length: n }, () => rng.normal());
const linear: Linear = { weight: dense('fp32', normal(24 * WIDTH), 24, WIDTH) };

/** Of inputs whose columns depend on each other and differ in size, so that order and compensation matter. */
async function inputs(): Promise<Matrix> {
  const hessian = createHessian(backend, WIDTH);
  const s = backend.scope();
  const mix = s.upload(
    matrix(
      normal(WIDTH * WIDTH).map((v, i) => v * (1 + (i % WIDTH) / 8)),
      WIDTH,
      WIDTH,
    ),
  );
  hessian.add(s.gemm(s.upload(matrix(normal(256 * WIDTH), 256, WIDTH)), mix));
  const h = await hessian.read();
  s.dispose();
  hessian.dispose();
  return h;
}
const h = await inputs();
const run = (hessian: Matrix, stage: Partial<Stage>) =>
  quantizeLinear(site, linear, { hessian: { tokens: 256, read: async () => hessian } }, { ...STAGE_DEFAULTS, ...stage }, { backend });

const base = { bits: 3, groupSize: 16 };
const cases: [Partial<Stage>, Partial<GptqOpts>][] = [
  [{ foem: true }, { foem: {} }],
  [{ foem: 0.5 }, { foem: { beta: 0.5 } }],
  [
    { actOrder: true, staticGroups: 'ordered' },
    { actOrder: true, staticGroups: 'ordered' },
  ],
  [
    { actOrder: true, staticGroups: true },
    { actOrder: true, staticGroups: true },
  ],
  [{ clip: 'imatrix' }, { clip: 'imatrix' }],
  [
    { clip: { method: 'mse', adjacentZeroPoints: true }, bits: 2 },
    { clip: { method: 'mse', adjacentZeroPoints: true }, bits: 2 },
  ],
  [
    { trits: true, bits: 2 },
    { trits: true, bits: 2 },
  ],
];

describe('quantizeLinear', () => {
  it.each(cases)('%j', async (stage, opts) => {
    const { linear: got, report } = await run(h, { ...base, ...stage });
    const want = await gptqLinear(linear, { hessian: h }, { ...base, scaleFormat: 'fp16', ...opts, backend });
    expect(got.weight).toEqual(want.linear.weight);
    expect(report.error).toBe(want.report.proxyLoss);
    expect(got.weight).not.toEqual((await run(h, base)).linear.weight);
    expect(report).not.toHaveProperty('diagonalFloor');
  });

  it('reports say what was used', async () => {
    const { report } = await run(h, { bits: 2, trits: true, clip: 'mse' });
    expect(report).toMatchObject({ bits: 2, trits: true, clip: 'mse' });
    expect((await run(h, base)).report).not.toHaveProperty('clip');
    expect((await run(h, base)).report).not.toHaveProperty('trits');
  });

  it('a fallback takes the place of calibration where too few tokens were seen', async () => {
    const own = (reached: number | undefined, stage: Partial<Stage>) =>
      quantizeLinear(
        site,
        linear,
        { hessian: { tokens: 256, read: async () => h }, reached },
        { ...STAGE_DEFAULTS, ...base, ...stage },
        { backend },
      );
    const smooth = { method: 'mad', groupSizeThreshold: 16 } as const;
    const got = await own(9, { fallback: { strategy: 'median', smooth } });
    const want = fallbackLinear(linear, { hessian: h }, { ...base, strategy: 'median', smooth });
    expect(got.linear.weight).toEqual(want.linear.weight);
    expect(got.report).toMatchObject({
      method: 'rtn',
      tokens: 9,
      error: want.report.proxyLoss,
      fallback: '9 calibration tokens: quantized by fallback median, smoothed by mad',
    });
    const enough = await own(undefined, { fallback: 'median' });
    expect(enough.linear.weight).toEqual((await run(h, base)).linear.weight);
    const none = await quantizeLinear(site, linear, undefined, { ...STAGE_DEFAULTS, ...base, fallback: 'mean' }, { backend });
    expect(none.linear.weight).toEqual(fallbackLinear(linear, {}, { ...base, strategy: 'mean' }).linear.weight);
    expect(none.report.fallback).toBe('0 calibration tokens: quantized by fallback mean');
  });

  it('clip imatrix without inputs counts them alike, and says so', async () => {
    const stage: Stage = { ...STAGE_DEFAULTS, ...base, method: 'rtn', clip: 'imatrix' };
    const { linear: got, report } = await quantizeLinear(site, linear, undefined, stage, { backend });
    const importance = new Float32Array(WIDTH).fill(1);
    expect(got.weight).toEqual(rtnLinear(linear, {}, { ...base, clip: 'imatrix', importance }).linear.weight);
    expect(report.fallback).toBe('no importances: inputs count alike');
  });

  it('dampIncrement decides how a Hessian that cannot be factored is damped, and the report says what it took', async () => {
    const broken = matrix(h.data.slice(), WIDTH, WIDTH);
    for (const [i, j] of [
      [0, 1],
      [1, 0],
    ] as const)
      broken.data[i * WIDTH + j] = 1.1 * Math.sqrt(h.get(0, 0) * h.get(1, 1)); // no correlation is above 1
    const small = await run(broken, { ...base, dampIncrement: 0.01 });
    const large = await run(broken, { ...base, dampIncrement: 0.2 });
    const none = await run(broken, { ...base, dampIncrement: 0 });
    expect(small.report.dampPercent).toBeGreaterThan(0.01);
    expect(small.report).not.toHaveProperty('diagonalFloor');
    expect(large.report.dampPercent).toBeCloseTo(0.21, 12);
    expect(none.report.dampPercent).toBe(0.01);
    expect(none.report.diagonalFloor).toBeGreaterThan(0);
  });
});
