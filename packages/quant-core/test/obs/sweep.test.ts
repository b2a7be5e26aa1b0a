import { jsBackend } from '@lmq/kernels-js';
import { obsQuantize } from '@lmq/quant-core';
import { createRng, matrix, type Scope } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

const ROWS = 3;
const COLS = 10;

/** Column after column in float64, no blocks: algorithm 1 as it stands. */
function plain(
  w: Float64Array,
  u: Float32Array,
  scale: (group: number) => number,
  groupOf: ArrayLike<number>,
): { codes: number[]; loss: number } {
  const codes: number[] = new Array(ROWS * COLS);
  let loss = 0;
  for (let r = 0; r < ROWS; r++) {
    for (let c = 0; c < COLS; c++) {
      const s = scale(groupOf[c]!);
      const code = Math.min(Math.max(Math.round(w[r * COLS + c]! / s) + 8, 0), 15);
      codes[r * COLS + c] = code;
      const e = (w[r * COLS + c]! - (code - 8) * s) / u[c * COLS + c]!;
      loss += (e * e) / 2;
      for (let j = c; j < COLS; j++) w[r * COLS + j]! -= e * u[c * COLS + j]!;
    }
  }
  return { codes, loss };
}

function inputs(): { w: Float32Array; u: Float32Array } {
  const rng = createRng(1);
  const w = Float32Array.from({ length: ROWS * COLS }, () => rng.normal());
  const u = new Float32Array(COLS * COLS);
  for (let i = 0; i < COLS; i++) for (let j = i; j < COLS; j++) u[i * COLS + j] = i === j ? 1 + rng.uniform() : rng.normal() * 0.3;
  return { w, u };
}

const gridOf = (s: Scope, scale: number) => ({
  scales: s.upload(matrix(new Float32Array(ROWS).fill(scale), ROWS, 1)),
  zeroPoints: s.upload(matrix(new Float32Array(ROWS).fill(8), ROWS, 1)),
});

describe('obsQuantize', () => {
  const groupOf = Int32Array.of(0, 0, 1, 1, 1, 0, 2, 2, 2, 2); // a group that comes back
  const scale = (g: number) => 0.2 + 0.05 * g;
  for (const blockSize of [1, 3, 4, 10, 128]) {
    it(`matches the algorithm without blocks at block size ${blockSize}`, async () => {
      const { w, u } = inputs();
      const s = jsBackend().scope();
      const weights = s.upload(matrix(w, ROWS, COLS));
      const asked: [number, number][] = [];
      const grid = (group: number, start: number) => {
        asked.push([group, start]);
        return gridOf(s, scale(group));
      };
      const { codes, loss } = await obsQuantize(s, weights, s.upload(matrix(u, COLS, COLS)), { bits: 4, blockSize, groupOf, grid });
      const want = plain(Float64Array.from(w), u, (g) => Math.fround(scale(g)), groupOf);
      expect([...(await s.readCodes(codes)).data]).toEqual(want.codes);
      expect(Math.abs(loss / want.loss - 1)).toBeLessThan(1e-5);
      const left = (await s.read(weights)).data;
      for (const [i, c] of want.codes.entries()) expect(left[i]).toBeCloseTo((c - 8) * scale(groupOf[i % COLS]!), 6);
      if (blockSize >= COLS) expect(asked).toEqual([0, 2, 5, 6].map((start) => [groupOf[start], start]));
      s.dispose();
    });
  }

  it('ends blocks so that no group is cut by one that begins inside it, when told', async () => {
    const blocksOf = async (groups: number[], blockSize: number, wholeGroups?: boolean) => {
      const s = jsBackend().scope();
      const { w, u } = inputs();
      const blocks: number[] = [];
      await obsQuantize(s, s.upload(matrix(w, ROWS, COLS)), s.upload(matrix(u, COLS, COLS)), {
        bits: 4,
        blockSize,
        groupOf: Int32Array.from(groups),
        grid: () => gridOf(s, 0.25),
        beforeBlock: (_, end) => void blocks.push(end),
        wholeGroups,
      });
      s.dispose();
      return blocks;
    };
    const threes = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3];
    expect(await blocksOf(threes, 4)).toEqual([3, 6, 10]);
    expect(await blocksOf(threes, 4, false)).toEqual([4, 8, 10]);
    expect(await blocksOf(threes, 2)).toEqual([2, 3, 5, 6, 8, 10]); // wider than a block: cut after its beginning
    expect(await blocksOf(threes, 6)).toEqual([6, 10]);
  });

  it('sweeps to tables', async () => {
    const { w, u } = inputs();
    const s = jsBackend().scope();
    const weights = s.upload(matrix(w, ROWS, COLS));
    const levels = (g: number) => Float32Array.from({ length: ROWS * 16 }, (_, i) => ((i % 16) - 8) * scale(g));
    const grid = (g: number) => ({ tables: s.upload(matrix(levels(g), ROWS, 16)) });
    const { codes, loss } = await obsQuantize(s, weights, s.upload(matrix(u, COLS, COLS)), { bits: 4, blockSize: 4, groupOf, grid });
    const want = plain(Float64Array.from(w), u, (g) => Math.fround(scale(g)), groupOf);
    expect([...(await s.readCodes(codes)).data]).toEqual(want.codes);
    expect(Math.abs(loss / want.loss - 1)).toBeLessThan(1e-5);
    s.dispose();
  });

  it('frees what it takes', async () => {
    const { w, u } = inputs();
    const s = jsBackend().scope();
    const grid = gridOf(s, 0.25);
    const weights = s.upload(matrix(w, ROWS, COLS));
    await obsQuantize(s, weights, s.upload(matrix(u, COLS, COLS)), { bits: 4, groupOf: new Int32Array(COLS), grid: () => grid });
    expect(() => s.copy(grid.scales)).toThrow(/freed/);
    s.dispose();
  });
});
