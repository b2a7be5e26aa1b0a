/**
 * Products with, and rows of, compressed weights of every layout.
 * @module
 */
import { type CompressedTensor, matrix } from '@lmq/tensor';
import { describe, expect } from 'vitest';
import { sampleWeights } from '../weights.js';
import { type Kit, place, random } from './kit.js';

export function weights({ check, near }: Kit): void {
  describe('compressed weights', () => {
    const large = ['fp32', 'bf16', 'affine 4-bit g32 symmetric', 'parts of columns'];
    for (const [rows, cols, labels] of [
      [1, 64, undefined],
      [5, 32, undefined],
      [70, 96, undefined],
      [150, 4096, large], // too large to decode at once
    ] as const) {
      check(`linear and embedding with every layout, ${rows} x ${cols}`, async (s, rng) => {
        for (const { label, weight, values } of sampleWeights(rng, rows, cols, labels)) {
          const bias = random(rng, rows);
          for (const withBias of [false, true]) {
            const loaded = s.backend.load({ weight, ...(withBias && { bias }) });
            expect([loaded.out, loaded.in]).toEqual([rows, cols]);
            expect(loaded.bytes).toBeGreaterThan(0);
            for (const tokens of withBias ? (labels ? [5] : [1, 5]) : labels ? [2] : [0, 2, 33]) {
              const x = place(s, rng, tokens, cols, tokens % 2 === 1);
              const want = new Float64Array(tokens * rows);
              const magnitude = new Float64Array(tokens * rows);
              for (let t = 0; t < tokens; t++) {
                for (let o = 0; o < rows; o++) {
                  let sum = withBias ? bias[o]! : 0;
                  let size = Math.abs(sum);
                  for (let i = 0; i < cols; i++) {
                    const p = x.values[t * cols + i]! * values[o * cols + i]!;
                    sum += p;
                    size += Math.abs(p);
                  }
                  want[t * rows + o] = sum;
                  magnitude[t * rows + o] = size * 2; // the decoded weight is rounded to float32 too
                }
              }
              near((await s.read(s.linear(x.handle, loaded))).data, want, magnitude, `${label}, ${tokens} tokens`);
            }
            const ids = [rows - 1, 0, 0, rows >> 1];
            const rowsOf = ids.flatMap((id) => Array.from(values.subarray(id * cols, (id + 1) * cols)));
            near((await s.read(s.embedding(loaded, ids))).data, rowsOf, rowsOf.map(Math.abs), `${label}, embedding`);
            loaded.dispose();
            expect(() => s.embedding(loaded, ids)).toThrow(/disposed/);
          }
        }
      });
    }
    check('a row of the product does not depend on the other rows', async (s, rng) => {
      const weight: CompressedTensor = { kind: 'dense', shape: [37, 50], format: 'fp32', data: random(rng, 37 * 50) };
      const loaded = s.backend.load({ weight });
      const x = random(rng, 9 * 50);
      const all = (await s.read(s.linear(s.upload(matrix(x, 9, 50)), loaded))).data;
      for (let t = 0; t < 9; t++) {
        const one = (await s.read(s.linear(s.upload(matrix(x.slice(t * 50, t * 50 + 50), 1, 50)), loaded))).data;
        near(one, all.subarray(t * 37, t * 37 + 37), new Float64Array(37).fill(50), `row ${t}`);
      }
    });
    for (const activations of ['int16', 'int8'] as const) {
      check(`linear with ${activations} activations and every layout`, async (s, rng) => {
        for (const [rows, cols, tokens] of [
          [1, 32, 1],
          [13, 96, 3],
          [70, 320, 33],
          [33, 96, 19],
        ] as const) {
          for (const { label, weight, values } of sampleWeights(rng, rows, cols)) {
            const bias = random(rng, rows);
            const loaded = s.backend.load({ weight, bias }, { activations });
            const x = place(s, rng, tokens, cols, tokens % 2 === 1);
            const rounded = weight.kind === 'affine' || weight.kind === 'blocks' ? roundRows(x.values, cols, activations) : x.values;
            const want = new Float64Array(tokens * rows);
            const magnitude = new Float64Array(tokens * rows);
            for (let t = 0; t < tokens; t++) {
              for (let o = 0; o < rows; o++) {
                let sum = bias[o]!;
                let size = Math.abs(sum);
                for (let i = 0; i < cols; i++) {
                  const p = rounded[t * cols + i]! * values[o * cols + i]!;
                  sum += p;
                  size += Math.abs(p);
                }
                want[t * rows + o] = sum;
                magnitude[t * rows + o] = size * 2; // a scale times a code is rounded to float32 on either side
              }
            }
            near((await s.read(s.linear(x.handle, loaded))).data, want, magnitude, `${label}, ${tokens} tokens`);
            await x.untouched();
            loaded.dispose();
          }
        }
      });
      check(`${activations}: zero tokens, infinities and NaN`, async (s, rng) => {
        const cols = 64;
        const weight = sampleWeights(rng, 3, cols, ['affine 4-bit g32 symmetric']).next().value!.weight as CompressedTensor;
        const loaded = s.backend.load({ weight }, { activations });
        for (const tokens of [1, 20]) {
          const x = s.alloc(tokens, cols);
          expect((await s.read(s.linear(x, loaded))).data.every((y) => y === 0)).toBe(true);
          for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
            s.write(s.view(x, [0, 1], [5, 6]), matrix(Float32Array.of(bad), 1, 1));
            expect((await s.read(s.linear(x, loaded))).data.map((y, i) => Number(Number.isNaN(y) === i < 3))).toEqual(
              new Float32Array(tokens * 3).fill(1),
            );
          }
        }
        expect((await s.read(s.linear(s.alloc(0, cols), loaded))).shape).toEqual([0, 3]);
      });
    }
  });
}

/** Input values as the contract rounds them: symmetric integers, one scale per token (int16) or per 32 columns (int8). */
function roundRows(x: Float32Array, cols: number, activations: 'int16' | 'int8'): Float64Array {
  const [group, largest] = activations === 'int16' ? [cols, 32767] : [32, 127];
  const out = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += group) {
    const part = x.subarray(start, start + group); // rows are whole numbers of groups
    const scale = Math.fround(part.reduce((max, v) => Math.max(max, Math.abs(v)), 0) / largest);
    part.forEach((v, i) => {
      out[start + i] = onGrid(v, scale);
    });
  }
  return out;
}

/** The nearest whole number of steps, halves to even. */
function onGrid(v: number, scale: number): number {
  const steps = Math.fround(v / scale);
  const below = Math.floor(steps);
  const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 !== 0);
  return (up ? below + 1 : below) * scale;
}
