/**
 * Norm, rotation, attention, gated units, softmax.
 * @module
 */
import { matrix } from '@lmq/tensor';
import { describe, expect } from 'vitest';
import { type Kit, place, random, SHAPES } from './kit.js';

export function transformer({ check, near, same }: Kit): void {
  describe('transformer', () => {
    check('rmsNorm', async (s, rng) => {
      for (const [rows, cols] of SHAPES) {
        const x = place(s, rng, rows, cols, true);
        const weight = place(s, rng, 1, cols, true);
        const want: number[] = [];
        for (let r = 0; r < rows; r++) {
          let squares = 0;
          for (let c = 0; c < cols; c++) squares += x.values[r * cols + c]! ** 2;
          for (let c = 0; c < cols; c++) want.push((x.values[r * cols + c]! / Math.sqrt(squares / cols + 1e-5)) * weight.values[c]!);
        }
        // A mean, a root, a quotient and two products are rounded.
        near(
          (await s.read(s.rmsNorm(x.handle, weight.handle, 1e-5))).data,
          want,
          want.map((y) => 4 * Math.abs(y)),
          `${rows} x ${cols}`,
        );
      }
    });
    check('rmsNorm of a zero row is zero', async (s) => {
      const weight = s.upload(matrix(Float32Array.of(1, 2, 3), 1, 3));
      expect((await s.read(s.rmsNorm(s.alloc(2, 3), weight, 1e-6))).data.every((x) => x === 0)).toBe(true);
    });
    for (const style of ['half', 'interleaved'] as const) {
      check(`rope ${style}`, async (s, rng) => {
        for (const [tokens, heads, headDim, rotary, position] of [
          [1, 1, 2, 2, 0],
          [5, 3, 8, 8, 2],
          [7, 2, 16, 8, 0], // partial rotary: the rest of each head stays
          [3, 2, 6, 6, 9],
          [0, 2, 4, 4, 1],
        ] as const) {
          const pairs = rotary / 2;
          const x = place(s, rng, tokens, heads * headDim, true);
          const angles = random(rng, 12 * pairs);
          const cos = place(s, rng, 12, pairs, true, angles.map(Math.cos));
          const sin = place(s, rng, 12, pairs, true, angles.map(Math.sin));
          s.rope(x.handle, cos.handle, sin.handle, { headDim, style, position });
          const want = Float64Array.from(x.values);
          const magnitude = new Float64Array(want.length);
          for (let t = 0; t < tokens; t++) {
            for (let h = 0; h < heads; h++) {
              const head = (t * heads + h) * headDim;
              for (let i = 0; i < pairs; i++) {
                const [p, q] = style === 'half' ? [head + i, head + i + pairs] : [head + 2 * i, head + 2 * i + 1];
                const c = cos.values[(position + t) * pairs + i]!;
                const d = sin.values[(position + t) * pairs + i]!;
                want[p] = x.values[p]! * c - x.values[q]! * d;
                want[q] = x.values[q]! * c + x.values[p]! * d;
                magnitude[p] = magnitude[q] = 2 * (Math.abs(x.values[p]!) + Math.abs(x.values[q]!));
              }
            }
          }
          near((await s.read(x.handle)).data, want, magnitude, `${heads} heads of ${headDim}`);
          await x.untouched();
        }
      });
    }
    check('attention', async (s, rng) => {
      for (const [tokens, heads, kvHeads, headDim, position, scale, window] of [
        [1, 1, 1, 1, 0, undefined],
        [6, 4, 2, 8, 0, undefined],
        [1, 4, 1, 16, 9, undefined],
        [5, 6, 6, 5, 3, 0.3],
        [33, 2, 1, 32, 20, undefined],
        [3, 2, 2, 4, 0, 30], // sharp: most probabilities vanish
        [4, 2, 1, 4, 2, 3000], // scores beyond the range of exp
        [0, 2, 2, 4, 3, undefined],
        [6, 4, 2, 8, 0, undefined, 1], // itself only
        [9, 2, 1, 8, 5, undefined, 4],
        [1, 2, 1, 8, 30, undefined, 7], // one token, far along
        [40, 2, 1, 16, 3, undefined, 11],
        [150, 1, 1, 8, 20, undefined, 33], // longer than a tile of queries
        [5, 2, 2, 4, 1, undefined, 6], // as long as all keys
        [5, 2, 2, 4, 1, undefined, 1e12],
      ] as [number, number, number, number, number, number?, number?][]) {
        const seen = position + tokens;
        const q = place(s, rng, tokens, heads * headDim, true);
        const k = place(s, rng, seen, kvHeads * headDim, true);
        const v = place(s, rng, seen, kvHeads * headDim, true);
        const opts = { heads, kvHeads, headDim, position, ...(scale !== undefined && { scale }), ...(window && { window }) };
        const got = (await s.read(s.attention(q.handle, k.handle, v.handle, opts))).data;
        const want = new Float64Array(tokens * heads * headDim);
        const magnitude = new Float64Array(want.length);
        const factor = scale ?? 1 / Math.sqrt(headDim);
        for (let t = 0; t < tokens; t++) {
          for (let h = 0; h < heads; h++) {
            const kv = Math.floor((h * kvHeads) / heads);
            const scores: number[] = [];
            let size = 0; // of the scores before they cancel: an error there multiplies the probabilities
            const first = Math.max(0, position + t + 1 - (window ?? seen));
            for (let u = first; u <= position + t; u++) {
              let score = 0;
              let sum = 0;
              for (let d = 0; d < headDim; d++) {
                const p = factor * q.values[(t * heads + h) * headDim + d]! * k.values[(u * kvHeads + kv) * headDim + d]!;
                score += p;
                sum += Math.abs(p);
              }
              scores.push(score);
              size = Math.max(size, sum);
            }
            const max = Math.max(...scores);
            const total = scores.reduce((sum, x) => sum + Math.exp(x - max), 0);
            for (let d = 0; d < headDim; d++) {
              const o = (t * heads + h) * headDim + d;
              scores.forEach((x, u) => {
                const y = (Math.exp(x - max) / total) * v.values[((first + u) * kvHeads + kv) * headDim + d]!;
                want[o]! += y;
                magnitude[o]! += Math.abs(y) * (2 + 4 * size);
              });
            }
          }
        }
        near(got, want, magnitude, `${tokens} tokens, ${heads}/${kvHeads} heads of ${headDim}, window ${window}`);
      }
    });
    check('attention in pieces is attention at once', async (s, rng) => {
      const [tokens, heads, kvHeads, headDim] = [9, 4, 2, 8];
      const q = random(rng, tokens * heads * headDim);
      const k = s.upload(matrix(random(rng, tokens * kvHeads * headDim), tokens, kvHeads * headDim));
      const v = s.upload(matrix(random(rng, tokens * kvHeads * headDim), tokens, kvHeads * headDim));
      const hq = s.upload(matrix(q, tokens, heads * headDim));
      const whole = (await s.read(s.attention(hq, k, v, { heads, kvHeads, headDim }))).data;
      for (const [from, to] of [
        [0, 4],
        [4, 5],
        [5, 9],
      ] as const) {
        const part = s.attention(s.view(hq, [from, to]), s.view(k, [0, to]), s.view(v, [0, to]), {
          heads,
          kvHeads,
          headDim,
          position: from,
        });
        const width = heads * headDim;
        near((await s.read(part)).data, whole.subarray(from * width, to * width), new Float64Array((to - from) * width).fill(4), `${from}`);
      }
    });
    for (const activation of ['silu', 'gelu-tanh'] as const) {
      // Both are x / (1 + e^-steep(x)); for gelu by (1 + tanh y) / 2 = 1 / (1 + e^-2y), which does not cancel far below zero.
      const steep = (x: number) => (activation === 'silu' ? x : 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3));
      check(`glu ${activation}`, async (s, rng) => {
        for (const [rows, cols] of SHAPES) {
          const gates = random(rng, rows * cols).map((x) => x * (activation === 'silu' ? 10 : 3));
          const gate = place(s, rng, rows, cols, true, gates);
          const up = place(s, rng, rows, cols, true);
          const want = Array.from(gate.values, (x, i) => (x / (1 + Math.exp(-steep(x)))) * up.values[i]!);
          // An error in the exponent multiplies. The last term allows for a double 1 + tanh y, which does cancel.
          const magnitude = want.map(
            (y, i) => Math.abs(y) * (3 + 2 * Math.abs(steep(gate.values[i]!))) + 1e-8 * Math.abs(gate.values[i]! * up.values[i]!),
          );
          near((await s.read(s.glu(gate.handle, up.handle, activation))).data, want, magnitude, `${rows} x ${cols}`);
        }
        const far = s.upload(matrix(Float32Array.of(-1e30, 1e30, -1e4, 1e4, -90, 90, 0), 1, 7));
        const ones = s.upload(matrix(new Float32Array(7).fill(1), 1, 7));
        const got = (await s.read(s.glu(far, ones, activation))).data;
        const small = activation === 'silu' ? -90 * Math.exp(-90) : 0;
        near(got, [0, 1e30, 0, 1e4, small, 90, 0], [0, 1e30, 0, 1e4, 1, 90, 0], 'far from zero');
      });
    }
    check('glu is silu by default', async (s, rng) => {
      const [gate, up] = [place(s, rng, 3, 9, false).handle, place(s, rng, 3, 9, false).handle];
      same((await s.read(s.glu(gate, up))).data, (await s.read(s.glu(gate, up, 'silu'))).data, 'silu');
    });
    check('softmax', async (s, rng) => {
      for (const [rows, cols] of SHAPES) {
        for (const spread of [1, 30]) {
          const x = place(
            s,
            rng,
            rows,
            cols,
            true,
            random(rng, rows * cols).map((y) => spread * y + 1000),
          );
          const want: number[] = [];
          const magnitude: number[] = [];
          for (let r = 0; r < rows; r++) {
            const row = Array.from(x.values.subarray(r * cols, (r + 1) * cols));
            const max = Math.max(...row);
            const total = row.reduce((sum, y) => sum + Math.exp(y - max), 0);
            for (const y of row) {
              want.push(Math.exp(y - max) / total);
              magnitude.push((Math.exp(y - max) / total) * (3 + max - y));
            }
          }
          near((await s.read(s.softmax(x.handle))).data, want, magnitude, `${rows} x ${cols}`);
        }
      }
      const low = s.upload(matrix(Float32Array.of(-2000, -2000, -1e30, -1e30), 2, 2));
      same((await s.read(s.softmax(low))).data, [0.5, 0.5, 0.5, 0.5], 'all far below zero');
      const masked = s.upload(matrix(Float32Array.of(0, Number.NEGATIVE_INFINITY, 0, 1e30, 0, -1e30), 2, 3));
      same((await s.read(s.softmax(masked))).data, [0.5, 0, 0.5, 1, 0, 0], 'far apart');
    });
  });
}
