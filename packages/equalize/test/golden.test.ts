import { readFileSync } from 'node:fs';
import { awqClip, awqScales, smoothQuant } from '@lmq/equalize';
import { wasmBackend } from '@lmq/kernels-wasm';
import { matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { glu, largest, lcgInputs, mean, meanSquare, multiply, perChannel, secondMoment } from './_inputs.js';

interface GridCase {
  bits: number;
  group: number;
  symmetric: boolean;
}
const golden = JSON.parse(readFileSync(new URL('golden/golden.json', import.meta.url), 'utf8')) as Parameters<typeof lcgInputs>[0] & {
  sum: number;
  scales: (GridCase & { block: 'mlp' | 'down'; duo: boolean; losses: number[]; scales: number[] })[];
  clips: (GridCase & { maxima: number[] })[];
  smooth: { alpha: number; scales: number[] }[];
};
const { gate, up, down, x } = lcgInputs(golden);
const act = glu(x, gate, up);
const backend = await wasmBackend();
const gridOf = ({ bits, group, symmetric }: GridCase) => ({
  bits,
  groupSize: group,
  symmetric,
  preset: 'awq' as const,
  scaleFormat: 'fp32' as const,
});
/** Largest relative difference. */
const distance = (a: ArrayLike<number>, b: readonly number[]) =>
  b.reduce((worst, v, i) => Math.max(worst, Math.abs(a[i]! - v) / Math.abs(v)), 0);

describe('AutoAWQ and SmoothQuant, executed', () => {
  it('start from the same inputs', () => {
    expect(x.data.reduce((n, v) => n + Math.abs(v), 0) / golden.sum).toBeCloseTo(1, 7);
  });

  for (const c of golden.scales) {
    const { block, duo, losses } = c;
    it(`scales: ${block}, ${JSON.stringify(gridOf(c))}${duo ? ', duo' : ''}`, async () => {
      const grid = gridOf(c);
      const errors: number[] = [];
      const feed = block === 'mlp' ? x : act;
      const target = multiply(act, down);
      const linears = block === 'mlp' ? [gate, up] : [down];
      const { scales, report } = await awqScales(
        {
          linears: linears.map((weight) => ({ weight, grid })),
          stats: { meanAbs: perChannel(feed, mean) },
          outputError: async ([a, b]) => {
            const out = block === 'mlp' ? multiply(glu(x, a!, b!), down) : multiply(act, a!);
            errors.push(meanSquare(out, target));
            return errors.at(-1)!;
          },
        },
        { duoScaling: duo, referenceCompat: true, backend },
      );
      // powers may differ in the last bit, which moves a weight across a rounding tie now and then
      expect(distance(errors, losses)).toBeLessThan(2e-3);
      expect(report.ratio).toBe(losses.indexOf(Math.min(...losses)) / 20);
      expect(distance(scales, c.scales)).toBeLessThan(2e-6);
    });
  }

  it('scales of one linear: judging by the Hessian is judging by its outputs', async () => {
    const c = golden.scales.find((s) => s.block === 'down' && !s.duo)!;
    const hessian = secondMoment(act);
    const { scales, report } = await awqScales(
      { linears: [{ weight: down, grid: gridOf(c) }], stats: { meanAbs: perChannel(act, mean), hessian } },
      { referenceCompat: true, backend },
    );
    expect(report.ratio).toBe(c.losses.indexOf(Math.min(...c.losses)) / 20);
    expect(distance(scales, c.scales)).toBeLessThan(2e-6);
    const power = meanSquare(multiply(act, down), matrix(new Float32Array(x.shape[0]! * 64), x.shape[0]!, 64));
    expect(report.error * power).toBeCloseTo(Math.min(...c.losses), 4);
    expect(report.plainError! * power).toBeCloseTo(c.losses[0]!, 4);
  });

  for (const c of golden.clips) {
    it(`clips: ${JSON.stringify(gridOf(c))}`, async () => {
      const { maxima, weight } = await awqClip(up, secondMoment(x), { grid: gridOf(c), backend });
      // two magnitudes may be as good as each other up to float order
      const other = c.maxima.filter((m, i) => Math.abs(maxima.data[i]! - m) > 1e-6 * m).length;
      expect(other / c.maxima.length).toBeLessThan(0.01);
      const groups = golden.hidden / c.group;
      weight.data.forEach((v, i) => {
        const row = Math.floor(i / golden.hidden);
        const m = maxima.data[row * groups + Math.floor((i % golden.hidden) / c.group)]!;
        expect(Math.abs(v)).toBe(Math.min(Math.abs(up.data[i]!), m));
      });
    });
  }

  for (const { alpha, scales: want } of golden.smooth) {
    it(`smoothing: alpha ${alpha}`, async () => {
      const { scales } = await smoothQuant({ linears: [gate, up], stats: { absMax: perChannel(x, largest) } }, { alpha });
      expect(distance(scales, want)).toBeLessThan(1e-6);
    });
  }
});
