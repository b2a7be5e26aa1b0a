import { type GptqOpts, gptq } from '@lmq/gptq';
import { jsBackend } from '@lmq/kernels-js';
import { createRng, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { countingBackend } from '../../quant-core/test/_counting.js';

/** A well-conditioned Hessian that costs nothing to make: a diagonal and a band. */
function banded(n: number) {
  const rng = createRng(1);
  const h = matrix(new Float32Array(n * n), n, n);
  for (let i = 0; i < n; i++) {
    h.data[i * n + i] = 2 + rng.uniform();
    if (i > 0) h.data[i * n + i - 1] = h.data[(i - 1) * n + i] = 0.9;
  }
  return h;
}

describe('memory of a wide layer', () => {
  const rows = 16;
  // The bound of the module's docstring: three squares while factoring, or the sweep, whichever is more. Strips of 128 rows on top.
  const bound = (n: number, squares: number, groups: number) => {
    const sweep = squares * n * n + rows * n * 1.25 + rows * (2 * 128 + 2 * groups);
    return 4 * (Math.max(3 * n * n, sweep) + 2 * 128 * n);
  };
  const cases: [string, Partial<GptqOpts>, number][] = [
    ['plain', {}, 1],
    ['groups', { groupSize: 128, actOrder: true }, 1],
    ['static groups', { groupSize: 128, groupAware: true, staticGroups: true }, 1],
    ['published scales', { groupSize: 128, referenceCompat: true }, 1],
  ];
  for (const [name, opts, squares] of cases) {
    it(`holds three squares at most: ${name}`, async () => {
      const n = 640;
      const { backend, peak, now } = countingBackend(jsBackend());
      const w = matrix(new Float32Array(rows * n).fill(1), rows, n);
      await gptq(w, banded(n), { bits: 4, ...opts, backend });
      expect(peak()).toBeLessThanOrEqual(bound(n, squares, opts.groupSize ? n / 128 : 1));
      expect(peak()).toBeGreaterThan(4 * 2.9 * n * n); // the counter counts
      expect(now()).toBe(0);
    });
  }

  for (const referenceCompat of [false, true]) {
    it(`holds three squares and the weights with a cross term: ${referenceCompat ? 'published rule' : 'default'}`, async () => {
      const n = 640;
      const { backend, peak, now } = countingBackend(jsBackend());
      const w = matrix(new Float32Array(rows * n).fill(1), rows, n);
      const crossTerm = banded(n);
      await gptq(w, banded(n), { bits: 4, groupSize: 128, actOrder: true, referenceCompat, gptaq: { crossTerm }, backend });
      expect(peak()).toBeLessThanOrEqual(bound(n, 2, n / 128));
      expect(now()).toBe(0);
    });
  }

  it('grows with the square of the width', async () => {
    const peaks: number[] = [];
    for (const n of [256, 1024]) {
      const { backend, peak } = countingBackend(jsBackend());
      await gptq(matrix(new Float32Array(4 * n).fill(1), 4, n), banded(n), { bits: 4, backend });
      peaks.push(peak() / (4 * n * n));
    }
    expect(peaks).toEqual([3, 3]);
  });
});
