// Trits in a model: their size is foretold to the byte, and linears multiply with what comes out.
import { byteLength, decode, dense, validate } from '@lmq/formats';
import { wasmBackend } from '@lmq/kernels-wasm';
import { createHessian } from '@lmq/quant-core';
import { createRng, type Linear, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { Stage } from '../src/api.js';
import { affineBytes } from '../src/estimate.js';
import { quantizeLinear } from '../src/quantize-linear.js';
import { STAGE_DEFAULTS } from '../src/recipe.js';

const [OUT, WIDTH] = [24, 96];
const rng = createRng(3);
const normal = (n: number) => Float32Array.from({ length: n }, () => rng.normal());
const linear: Linear = { weight: dense('fp32', normal(OUT * WIDTH), OUT, WIDTH) };
const x = matrix(normal(2 * WIDTH * WIDTH), 2 * WIDTH, WIDTH);
const backend = await wasmBackend();

const cases: Partial<Stage>[] = [
  {},
  { symmetric: true, scaleFormat: 'fp32' },
  { groupSize: 32 },
  { groupSize: 32, symmetric: true },
  { groupSize: 32, actOrder: true },
  { groupSize: 32, actOrder: true, symmetric: true },
  { groupSize: 32, actOrder: true, symmetric: true, staticGroups: true },
  { groupSize: 6, actOrder: true }, // codes of a part end inside a byte
  { method: 'rtn', groupSize: 16, clip: 'imatrix' },
];

describe('trits', () => {
  it.each(cases)('%j', async (change) => {
    const stage: Stage = { ...STAGE_DEFAULTS, trits: true, bits: 2, ...change };
    const s = backend.scope();
    const hessian = createHessian(backend, WIDTH);
    hessian.add(s.upload(x));
    const { linear: got, report } = await quantizeLinear({ name: 'a' }, linear, { hessian }, stage, { backend });
    validate(got.weight);
    expect(affineBytes(OUT, WIDTH, stage)).toBe(byteLength(got.weight));
    expect(report.bitsPerWeight).toBe((8 * byteLength(got.weight)) / (OUT * WIDTH));
    const loaded = backend.load(got);
    const y = (await s.read(s.linear(s.upload(x), loaded))).data;
    const w = decode(got.weight).data;
    for (const [t, o] of [
      [0, 0],
      [5, 23],
      [190, 7],
    ] as const) {
      let sum = 0;
      for (let c = 0; c < WIDTH; c++) sum += x.data[t * WIDTH + c]! * w[o * WIDTH + c]!;
      expect(y[t * OUT + o]).toBeCloseTo(sum, 3);
    }
    loaded.dispose();
    hessian.dispose();
    s.dispose();
  });
});
