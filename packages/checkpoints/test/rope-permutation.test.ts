import { describe, expect, it } from 'vitest';
import { permutedRows, unpermutedRows } from '../src/rope-permutation.js';
import { expectFailure } from './_files.js';

describe('permutedRows', () => {
  it('is reshape (heads, 2, d/2), axes swapped, reshape back', () => {
    // numpy: numpy.arange(12).reshape(2, 2, 3).swapaxes(1, 2).reshape(12)
    expect([...permutedRows(12, 2)]).toEqual([0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    // numpy: numpy.arange(8).reshape(1, 2, 4).swapaxes(1, 2).reshape(8)
    expect([...permutedRows(8, 1)]).toEqual([0, 4, 1, 5, 2, 6, 3, 7]);
  });

  it('puts the pair (i, i + d/2) side by side', () => {
    const index = permutedRows(64, 4);
    for (let i = 0; i < 64; i += 2) expect(index[i + 1]! - index[i]!).toBe(8);
  });

  it('is undone by unpermutedRows', () => {
    for (const [rows, heads] of [
      [12, 2],
      [256, 8],
      [2, 1],
    ] as const) {
      const there = permutedRows(rows, heads);
      const back = unpermutedRows(rows, heads);
      expect([...back].map((i) => there[i])).toEqual([...Array(rows).keys()]);
    }
  });

  it('refuses rows that are not heads of even size', async () => {
    for (const [rows, heads] of [
      [12, 5],
      [9, 3],
      [8, 0],
    ] as const) {
      await expectFailure(() => permutedRows(rows, heads), 'argument/shape');
      await expectFailure(() => unpermutedRows(rows, heads), 'argument/shape');
    }
  });
});
