/**
 * fakeQuant and the OBS sweep: exact.
 * @module
 */
import { matrix } from '@lmq/tensor';
import { describe } from 'vitest';
import { type Kit, place, random, SHAPES } from './kit.js';

export function quantization({ check, same }: Kit): void {
  describe('quantization', () => {
    check('fakeQuant: codes and values are exact', async (s, rng) => {
      for (const bits of [1, 2, 3, 4, 8]) {
        for (const [rows, cols] of SHAPES) {
          for (const groupSize of [1, 4, 7, 64]) {
            const view = rng.below(2) === 1;
            const groups = Math.ceil(cols / groupSize);
            const w = place(s, rng, rows, cols, view);
            const scales = place(
              s,
              rng,
              rows,
              groups,
              view,
              random(rng, rows * groups).map((x) => Math.abs(x) / 4),
            );
            const zeros = place(
              s,
              rng,
              rows,
              groups,
              view,
              Float32Array.from({ length: rows * groups }, () => rng.below(2 ** bits)),
            );
            const codes = s.alloc(rows, cols, 'u8');
            const out = s.fakeQuant(w.handle, { scales: scales.handle, zeroPoints: zeros.handle, bits }, groupSize, codes);
            const wantCodes: number[] = [];
            const want: number[] = [];
            for (let r = 0; r < rows; r++) {
              for (let c = 0; c < cols; c++) {
                const g = r * groups + Math.floor(c / groupSize);
                const q = onGrid(w.values[r * cols + c]!, scales.values[g]!, zeros.values[g]!, bits);
                wantCodes.push(q.code);
                want.push(q.value);
              }
            }
            same((await s.readCodes(codes)).data, wantCodes, `codes ${bits} bits`);
            same((await s.read(out)).data, want, 'values');
            same((await s.read(w.handle)).data, w.values, 'w is left alone');
            const withoutCodes = s.fakeQuant(w.handle, { scales: scales.handle, zeroPoints: zeros.handle, bits }, groupSize);
            same((await s.read(withoutCodes)).data, want, 'values without codes');
          }
        }
      }
    });
    check('fakeQuant: ties go to even, ends clamp, a scale of 0 takes the zero point', async (s) => {
      const w = Float32Array.of(0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1e30, -1e30, 0.49999997, 3e38, -0, 7);
      const n = w.length;
      const one = (scale: number, zero: number) => ({
        scales: s.upload(matrix(Float32Array.of(scale), 1, 1)),
        zeroPoints: s.upload(matrix(Float32Array.of(zero), 1, 1)),
        bits: 4,
      });
      const codes = s.alloc(1, n, 'u8');
      s.fakeQuant(s.upload(matrix(w, 1, n)), one(1, 8), n, codes);
      same((await s.readCodes(codes)).data, [8, 10, 10, 8, 6, 6, 15, 0, 8, 15, 8, 15], 'ties');
      const values = s.fakeQuant(s.upload(matrix(w, 1, n)), one(0, 5), n, codes);
      same((await s.readCodes(codes)).data, new Array(n).fill(5), 'codes at scale 0');
      same((await s.read(values)).data, new Array(n).fill(0), 'values at scale 0');
      // 12582913 / 8388609 = 1.49999994 and 20971528 / 8388611 = 2.50000006: ties once rounded to float32.
      s.fakeQuant(s.upload(matrix(Float32Array.of(12582913, -12582913), 1, 2)), one(8388609, 8), 2, s.view(codes, [0, 1], [0, 2]));
      same((await s.readCodes(s.view(codes, [0, 1], [0, 2]))).data, [10, 6], 'float32 division');
      s.fakeQuant(s.upload(matrix(Float32Array.of(20971528, -20971528), 1, 2)), one(8388611, 8), 2, s.view(codes, [0, 1], [0, 2]));
      same((await s.readCodes(s.view(codes, [0, 1], [0, 2]))).data, [10, 6], 'float32 division');
      // 1e-40 is subnormal: the quotients overflow to infinity and clamp.
      s.fakeQuant(s.upload(matrix(Float32Array.of(1, -1, 0), 1, 3)), one(1e-40, 8), 3, s.view(codes, [0, 1], [0, 3]));
      same((await s.readCodes(s.view(codes, [0, 1], [0, 3]))).data, [15, 0, 8], 'subnormal scale');
    });
    check('obsSweep: exact, against a transcription of the algorithm', async (s, rng) => {
      for (const [rows, width, start, end, blockEnd] of [
        [1, 1, 0, 1, 1],
        [3, 9, 0, 9, 9],
        [5, 12, 4, 8, 10],
        [33, 40, 8, 17, 37],
        [4, 70, 32, 64, 70],
        [2, 16, 3, 4, 4],
        [0, 8, 0, 8, 8],
      ] as const) {
        for (const bits of [2, 4, 8]) {
          for (const view of [false, true]) {
            const span = end - start;
            const w = place(s, rng, rows, width, view);
            const factor = random(rng, width * width).map((x, i) => (i % width === Math.floor(i / width) ? 0.5 + Math.abs(x) : x / 4));
            const u = place(s, rng, width, width, view, factor);
            const scales = place(
              s,
              rng,
              rows,
              1,
              view,
              random(rng, rows).map((x, i) => (i === 1 ? 0 : Math.abs(x) / 2)),
            );
            const zeros = place(
              s,
              rng,
              rows,
              1,
              view,
              Float32Array.from({ length: rows }, () => rng.below(2 ** bits)),
            );
            const errors = place(s, rng, rows, span, view);
            const codes = s.alloc(rows, span, 'u8');
            const grid = { scales: scales.handle, zeroPoints: zeros.handle, bits };
            s.obsSweep(w.handle, u.handle, { start, end, blockEnd, grid, codes, errors: errors.handle });

            const row = w.values.slice();
            const wantErrors = new Float32Array(rows * span);
            const wantCodes = new Uint8Array(rows * span);
            for (let i = start; i < end; i++) {
              for (let r = 0; r < rows; r++) {
                const x = row[r * width + i]!;
                const q = onGrid(x, scales.values[r]!, zeros.values[r]!, bits);
                const e = Math.fround(Math.fround(x - q.value) / factor[i * width + i]!);
                wantCodes[r * span + i - start] = q.code;
                wantErrors[r * span + i - start] = e;
                row[r * width + i] = q.value;
                for (let j = i + 1; j < blockEnd; j++) row[r * width + j] = row[r * width + j]! - Math.fround(e * factor[i * width + j]!);
              }
            }
            same((await s.readCodes(codes)).data, wantCodes, 'codes');
            same((await s.read(errors.handle)).data, wantErrors, 'errors');
            same((await s.read(w.handle)).data, row, 'w');
            await w.untouched();
            await errors.untouched();
          }
        }
      }
    });
    check('obsSweep to the nearest entry of a table: exact', async (s, rng) => {
      for (const [rows, width, start, end, blockEnd] of [
        [1, 1, 0, 1, 1],
        [5, 12, 4, 8, 10],
        [7, 40, 8, 17, 37],
        [4, 70, 32, 64, 70],
        [0, 8, 0, 8, 8],
      ] as const) {
        for (const entries of [1, 3, 4, 7, 8, 11, 16, 250, 256]) {
          const view = rng.below(2) === 1;
          const span = end - start;
          const w = place(s, rng, rows, width, view);
          const factor = random(rng, width * width).map((x, i) => (i % width === Math.floor(i / width) ? 0.5 + Math.abs(x) : x / 4));
          const u = place(s, rng, width, width, view, factor);
          // Multiples of 1/4 among weights that are some too: entries come twice, and weights lie in the middle of two.
          const coarse = (x: number) => Math.round(4 * x) / 4;
          const tables = place(s, rng, rows, entries, view, random(rng, rows * entries).map(coarse));
          s.write(
            w.handle,
            matrix(
              w.values.map((x, i) => (i % 3 ? coarse(x / 2) / 2 : x)),
              rows,
              width,
            ),
          );
          const before = (await s.read(w.handle)).data;
          const errors = place(s, rng, rows, span, view);
          const codes = s.alloc(rows, span, 'u8');
          const grid = { tables: tables.handle, bits: 8 };
          s.obsSweep(w.handle, u.handle, { start, end, blockEnd, grid, codes, errors: errors.handle });

          const row = before.slice();
          const wantErrors = new Float32Array(rows * span);
          const wantCodes = new Uint8Array(rows * span);
          for (let i = start; i < end; i++) {
            for (let r = 0; r < rows; r++) {
              const x = row[r * width + i]!;
              const table = [...tables.values.subarray(r * entries, (r + 1) * entries)];
              const distances = table.map((t) => Math.abs(Math.fround(x - t)));
              const code = distances.indexOf(Math.min(...distances));
              const e = Math.fround(Math.fround(x - table[code]!) / factor[i * width + i]!);
              wantCodes[r * span + i - start] = code;
              wantErrors[r * span + i - start] = e;
              row[r * width + i] = table[code]!;
              for (let j = i + 1; j < blockEnd; j++) row[r * width + j] = row[r * width + j]! - Math.fround(e * factor[i * width + j]!);
            }
          }
          same((await s.readCodes(codes)).data, wantCodes, `codes, ${entries} entries`);
          same((await s.read(errors.handle)).data, wantErrors, 'errors');
          same((await s.read(w.handle)).data, row, 'w');
          await w.untouched();
          await errors.untouched();
        }
      }
    });
    check('obsSweep to a table: NaN and infinity take the first entry', async (s) => {
      for (const entries of [3, 16]) {
        const codes = s.alloc(3, 1, 'u8');
        const tables = s.upload(
          matrix(
            Float32Array.from({ length: 3 * entries }, (_, i) => i % entries),
            3,
            entries,
          ),
        );
        const w = s.upload(matrix(Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY), 3, 1));
        const one = s.upload(matrix(Float32Array.of(1), 1, 1));
        s.obsSweep(w, one, { start: 0, end: 1, blockEnd: 1, grid: { tables, bits: 4 }, codes, errors: s.alloc(3, 1) });
        same((await s.readCodes(codes)).data, [0, 0, 0], `${entries} entries`);
        same((await s.read(w)).data, [0, 0, 0], 'values');
      }
    });
    check('obsSweep with U = I is fakeQuant', async (s, rng) => {
      const [rows, width] = [6, 50];
      const identity = new Float32Array(width * width);
      for (let i = 0; i < width; i++) identity[i * width + i] = 1;
      const w = s.upload(matrix(random(rng, rows * width), rows, width));
      const grid = {
        scales: s.upload(
          matrix(
            random(rng, rows).map((x) => Math.abs(x) / 3),
            rows,
            1,
          ),
        ),
        zeroPoints: s.upload(matrix(new Float32Array(rows).fill(4), rows, 1)),
        bits: 3,
      };
      const plainCodes = s.alloc(rows, width, 'u8');
      const plain = s.fakeQuant(w, grid, width, plainCodes);
      const codes = s.alloc(rows, width, 'u8');
      const errors = s.alloc(rows, width);
      s.obsSweep(w, s.upload(matrix(identity, width, width)), { start: 0, end: width, blockEnd: width, grid, codes, errors });
      same((await s.readCodes(codes)).data, (await s.readCodes(plainCodes)).data, 'codes');
      same((await s.read(w)).data, (await s.read(plain)).data, 'values');
    });
  });
}

/** The grid as the Scope contract states it, in float32 steps; rounding by comparison, not by the trick of the code under test. */
function onGrid(w: number, scale: number, zero: number, bits: number): { code: number; value: number } {
  const x = scale === 0 ? 0 : Math.fround(w / scale);
  const below = Math.floor(x);
  const rest = x - below;
  const steps = rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
  const code = Math.min(Math.max(steps + zero, 0), 2 ** bits - 1);
  return { code, value: Math.fround(Math.fround(code - zero) * scale) };
}
