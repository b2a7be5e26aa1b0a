import { readFileSync } from 'node:fs';
import { decode, validate } from '@lmq/formats';
import { type GptqOpts, gptq } from '@lmq/gptq';
import { wasmBackend } from '@lmq/kernels-wasm';
import { rtn } from '@lmq/quant-core';
import { matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { correlated, lcgInputs } from './_inputs.js';

interface Case {
  options: { group?: number; sym?: boolean; act_order?: boolean; static?: boolean; fresh?: boolean; gar?: boolean };
  codes: string;
  scales: number[];
  zeros: number[];
  index: number[];
  loss: number;
}
const golden = JSON.parse(readFileSync(new URL('golden/golden.json', import.meta.url), 'utf8')) as Parameters<typeof lcgInputs>[0] & {
  trits: Case[];
};
const { w, h } = lcgInputs(golden);
const TRITS = { bits: 2, trits: true } as const;

// Bounds as in golden.test.ts; three values are so coarse that an early flip moves more of its row.
describe('trits agree with a float32 restatement of the reference', () => {
  for (const { options, ...want } of golden.trits) {
    it(JSON.stringify(options), async () => {
      const { weight, report } = await gptq(w, h, {
        ...TRITS,
        symmetric: options.sym ?? false,
        groupSize: options.group ?? -1,
        actOrder: options.act_order ?? false,
        groupAware: options.gar ?? false,
        staticGroups: options.static ?? false,
        referenceCompat: !options.fresh,
        scaleFormat: 'fp32',
      });
      validate(weight);
      const groups = want.scales.length / golden.rows;
      const values = decode(weight).data;
      let same = 0;
      for (let i = 0; i < values.length; i++) {
        const [r, c] = [Math.floor(i / golden.cols), i % golden.cols];
        const at = r * groups + want.index[c]!;
        const value = [0, want.zeros[at]!, want.scales[at]!][Number(want.codes[i])]!;
        const code = values[i]! > 0 ? 2 : values[i]! < 0 ? 1 : 0;
        if (code === Number(want.codes[i]) && (code === 0 || Math.abs(values[i]! / value - 1) < 1e-5)) same++;
      }
      expect(same / values.length).toBeGreaterThanOrEqual(0.98);
      expect(Math.abs(report.loss! / want.loss - 1)).toBeLessThan(0.01);
      expect(report).toMatchObject({ bits: 2, trits: true });
      expect(weight.kind).toBe(groups === 1 || (options.sym && !options.act_order) || (options.sym && options.static) ? 'lut' : 'parts');
    });
  }
});

const grids: Omit<GptqOpts, 'bits' | 'trits' | 'table'>[] = [
  {},
  { symmetric: true },
  { groupSize: 32 },
  { groupSize: 32, symmetric: true },
  { groupSize: 32, symmetric: true, clip: 'mse' },
  { granularity: 'tensor' },
  { granularity: 'tensor', symmetric: true },
];

describe('trits', () => {
  it.each(grids)('are rounded to nearest when inputs are white: %j', async (grid) => {
    const { w } = correlated(24, 96, 1);
    const identity = matrix(new Float32Array(96 * 96), 96, 96);
    for (let i = 0; i < 96; i++) identity.set(i, i, 3);
    const nearest = rtn(w, { ...TRITS, ...grid });
    for (const backend of [undefined, await wasmBackend()]) {
      const { weight, report } = await gptq(w, identity, { ...TRITS, ...grid, backend });
      expect(decode(weight).data).toEqual(decode(nearest.weight).data);
      expect(weight).toEqual(nearest.weight);
      expect(report.bitsPerWeight).toBe(nearest.report.bitsPerWeight);
    }
  });

  it('make up for their errors, by columns in any order', async () => {
    const { w, h } = correlated(32, 192, 2);
    const grid = { symmetric: true, groupSize: 64, clip: 'mse' } as const;
    const nearest = rtn(w, { ...TRITS, ...grid, hessian: h }).report.proxyLoss!;
    for (const order of [{}, { actOrder: true }, { groupAware: true }, { actOrder: true, staticGroups: true }]) {
      const { report } = await gptq(w, h, { ...TRITS, ...grid, ...order });
      expect(report.proxyLoss).toBeLessThan(0.6 * nearest);
    }
  });
});
