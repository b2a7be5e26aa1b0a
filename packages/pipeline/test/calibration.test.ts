import { describe, expect, it } from 'vitest';
import { drawWindows } from '../src/calibration.js';

const ids = Array.from({ length: 100 }, (_, i) => i);

describe('drawWindows', () => {
  it('draws contiguous windows that do not overlap', () => {
    const windows = drawWindows(ids, { samples: 6, seqLen: 10, seed: 1 });
    expect(windows).toHaveLength(6);
    const starts = windows.map((w) => w[0]!);
    expect(new Set(starts).size).toBe(6);
    for (const w of windows) {
      expect(w[0]! % 10).toBe(0);
      expect([...w]).toEqual(Array.from({ length: 10 }, (_, i) => w[0]! + i));
    }
  });
  it('depends on the seed and on nothing else', () => {
    const draw = (seed: number) => drawWindows(ids, { samples: 5, seqLen: 10, seed });
    expect(draw(3)).toEqual(draw(3));
    expect(draw(3)).not.toEqual(draw(4));
  });
  it('takes all windows when there are fewer than samples', () => {
    expect(drawWindows(ids, { samples: 50, seqLen: 30, seed: 0 })).toHaveLength(3);
  });
  it('refuses text shorter than one window, and says what to do', () => {
    expect(() => drawWindows(ids, { samples: 1, seqLen: 101, seed: 0 })).toThrow(
      /shorter than one window; expected at least 101 tokens; found 100 tokens. Give more text/,
    );
  });
});
