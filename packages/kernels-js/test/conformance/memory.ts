/**
 * Handles: transfer, views, zeroing, running out of memory.
 * @module
 */
import { isLmqError, matrix, ndarray } from '@lmq/tensor';
import { describe, expect } from 'vitest';
import { type Kit, place, random, SHAPES } from './kit.js';

export function memory({ check, near, same }: Kit): void {
  describe('memory', () => {
    check('upload, read, write, copy of plain matrices and views', async (s, rng) => {
      for (const [rows, cols] of SHAPES) {
        for (const view of [false, true]) {
          const a = place(s, rng, rows, cols, view);
          same((await s.read(a.handle)).data, a.values, `read ${rows} x ${cols}`);
          const copied = s.copy(a.handle);
          const other = random(rng, rows * cols);
          s.write(a.handle, matrix(other, rows, cols));
          same((await s.read(a.handle)).data, other, 'write');
          same((await s.read(copied)).data, a.values, 'copy');
          await a.untouched();
        }
      }
    });
    check('reshape shares memory', async (s, rng) => {
      const values = random(rng, 24);
      const h = s.upload(matrix(values, 4, 6));
      const wide = s.reshape(h, 2, 12);
      expect([wide.rows, wide.cols]).toEqual([2, 12]);
      same((await s.read(wide)).data, values, 'read');
      same((await s.read(s.view(wide, [1, 2], [3, 5]))).data, values.subarray(15, 17), 'a view of it');
      const a = random(rng, 6);
      const product = s.gemm(s.upload(matrix(a, 1, 6)), s.reshape(h, 6, 4));
      const want = Array.from({ length: 4 }, (_, j) => a.reduce((sum, x, i) => sum + x * values[i * 4 + j]!, 0));
      near(
        (await s.read(product)).data,
        want,
        [9, 9, 9, 9].map((x) => x * 6),
        'gemm',
      );
      s.write(wide, matrix(new Float32Array(24).fill(3), 2, 12));
      same((await s.read(h)).data, new Float32Array(24).fill(3), 'write');
      const bytes = s.upload(ndarray(Uint8Array.of(1, 2, 3, 4, 5, 6), [3, 2]));
      same((await s.readCodes(s.reshape(bytes, 1, 6))).data, [1, 2, 3, 4, 5, 6], 'codes');
    });
    check('codes', async (s, rng) => {
      const bytes = Uint8Array.from({ length: 7 * 9 }, () => rng.below(256));
      const h = s.upload(ndarray(bytes, [7, 9]));
      const window = s.view(h, [2, 5], [3, 8]);
      const got = await s.readCodes(window);
      expect(got.shape).toEqual([3, 5]);
      for (let i = 0; i < 3; i++) for (let j = 0; j < 5; j++) expect(got.get(i, j)).toBe(bytes[(2 + i) * 9 + 3 + j]);
      s.write(window, ndarray(new Uint8Array(15).fill(200), [3, 5]));
      const after = (await s.readCodes(h)).data;
      for (let i = 0; i < 63; i++) {
        const [r, c] = [Math.floor(i / 9), i % 9];
        expect(after[i]).toBe(r >= 2 && r < 5 && c >= 3 && c < 8 ? 200 : bytes[i]);
      }
    });
    check('new handles are zero, also where memory was used before', async (s, rng) => {
      for (let i = 0; i < 20; i++) {
        const h = s.upload(matrix(random(rng, 999), 27, 37));
        s.free(h);
        const zero = s.alloc(27, 37);
        expect((await s.read(zero)).data.every((x) => x === 0)).toBe(true);
        s.free(zero);
        expect((await s.readCodes(s.alloc(3, 5, 'u8'))).data.every((x) => x === 0)).toBe(true);
      }
    });
    check('an impossible allocation is backend/memory, and the backend works afterwards', async (s) => {
      let error: unknown;
      try {
        s.alloc(2 ** 24, 2 ** 26); // 4 PiB
      } catch (e) {
        error = e;
      }
      expect(isLmqError(error) && error.code).toBe('backend/memory');
      expect((await s.read(s.alloc(2, 2))).data).toEqual(new Float32Array(4));
    });
  });
}
