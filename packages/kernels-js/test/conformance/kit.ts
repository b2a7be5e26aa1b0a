/**
 * What the groups of checks share: comparisons, and matrices placed alone or inside larger ones.
 * @module
 */
import { type Handle, type Matrix, matrix, type Rng, type Scope } from '@lmq/tensor';
import { expect } from 'vitest';

/** Handed to each group of checks. */
export interface Kit {
  /** A test with a scope of its own and a generator seeded by its name. */
  check(title: string, body: (s: Scope, rng: Rng) => Promise<void>): void;
  /** |got - want| is within the backend's error per unit of magnitude. */
  near(got: ArrayLike<number>, want: ArrayLike<number>, magnitude: ArrayLike<number>, where: string): void;
  /** The same numbers, zeros with their signs. */
  same(got: ArrayLike<number>, want: ArrayLike<number>, where: string): void;
}

/** A matrix on the backend, its values here, and the larger matrix around it when it is a view. */
export interface Placed {
  handle: Handle;
  values: Float32Array;
  rows: number;
  cols: number;
  /** Throws when anything around the view has changed. */
  untouched(): Promise<void>;
}

/** Rows, columns: empty, single, and around the block sizes 4, 8, 16, 32. */
export const SHAPES: [number, number][] = [
  [0, 5],
  [1, 1],
  [1, 37],
  [5, 1],
  [3, 4],
  [4, 8],
  [7, 19],
  [33, 35],
  [16, 64],
];

export function random(rng: Rng, n: number): Float32Array {
  return Float32Array.from({ length: n }, () => rng.normal());
}

/** Uploads a matrix, alone or as a window of a larger one full of noise. */
export function place(s: Scope, rng: Rng, rows: number, cols: number, view: boolean, values = random(rng, rows * cols)): Placed {
  if (!view) return { handle: s.upload(matrix(values, rows, cols)), values, rows, cols, async untouched() {} };
  const [top, left, height, width] = [1 + rng.below(3), 1 + rng.below(3), rows + 5, cols + 7];
  const noise = random(rng, height * width);
  for (let i = 0; i < rows; i++) noise.set(values.subarray(i * cols, (i + 1) * cols), (top + i) * width + left);
  const around = s.upload(matrix(noise, height, width));
  return {
    handle: s.view(around, [top, top + rows], [left, left + cols]),
    values,
    rows,
    cols,
    async untouched() {
      const now: Matrix = await s.read(around);
      for (let i = 0; i < height; i++) {
        for (let j = 0; j < width; j++) {
          const inside = i >= top && i < top + rows && j >= left && j < left + cols;
          if (!inside && now.data[i * width + j] !== noise[i * width + j]) expect.fail(`the op wrote outside its view, at ${i}, ${j}`);
        }
      }
    },
  };
}
