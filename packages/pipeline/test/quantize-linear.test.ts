// Options of a stage reach the method: the same bytes as calling it with them.

import { dense } from '@lmq/formats';
import { type GptqOpts, gptqLinear } from '@lmq/gptq';
import { wasmBackend } from '@lmq/kernels-wasm';
import { createHessian } from '@lmq/quant-core';
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
