/**
 * Linears whose input is quantized, against the definition of `InputQuant` written out in float64.
 * @module
 */
import { type InputQuant, type LmqError, matrix, type Rng } from '@lmq/tensor';
import { expect } from 'vitest';
import { type SampleWeight, sampleWeights } from '../weights.js';
import { type Kit, place, random } from './kit.js';

const f = Math.fround;
const INPUTS: Record<string, InputQuant> = {
  'per token, symmetric': { kind: 'int8', per: 'token', symmetric: true },
  'per token, asymmetric': { kind: 'int8', per: 'token', symmetric: false },
  'per tensor, symmetric': { kind: 'int8', per: 'tensor', symmetric: true },
  'per tensor, asymmetric': { kind: 'int8', per: 'tensor', symmetric: false },
  'static, symmetric': { kind: 'int8', per: 'tensor', symmetric: true, static: { scale: f(0.013), zeroPoint: 0 } },
  'static, asymmetric': { kind: 'int8', per: 'tensor', symmetric: false, static: { scale: f(0.021), zeroPoint: -31 } },
  'LLM.int8() without outliers': { kind: 'llm-int8', threshold: 0 },
  'LLM.int8() with some': { kind: 'llm-int8', threshold: 2.5 },
  'LLM.int8() with nothing else': { kind: 'llm-int8', threshold: 1e-30 },
};
const WEIGHTS = ['affine 4-bit g32 symmetric', 'affine 3-bit per row, zero points', 'affine 8-bit per tensor', 'affine 8-bit per row'];

export function quantizedInputs({ check, near }: Kit): void {
  for (const [label, input] of Object.entries(INPUTS)) {
    check(`linear with int8 input, ${label}`, async (s, rng) => {
      for (const [rows, cols, tokens] of [
        [1, 32, 1],
        [13, 96, 3],
        [70, 320, 33],
        [9, 2080, 7],
      ] as const) {
        for (const { label, weight, values } of weights(rng, rows, cols)) {
          const bias = random(rng, rows);
          const loaded = s.backend.load({ weight, bias, input }, { activations: tokens % 2 ? 'float32' : 'int8' });
          const values_ = random(rng, tokens * cols).map((v, i) => (i % 37 === 5 ? 3 * v : v));
          const x = place(s, rng, tokens, cols, tokens % 2 === 1, values_);
          const { rounded, outliers } = roundAs(x.values, cols, input);
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
              magnitude[t * rows + o] = size * 2; // scales and decoded weights are rounded to float32 on either side
            }
          }
          near((await s.read(s.linear(x.handle, loaded))).data, want, magnitude, `${label}, ${tokens} x ${cols}`);
          await x.untouched();
          expect(loaded.outliers).toEqual(input.kind === 'llm-int8' ? { columns: outliers, of: cols } : undefined);
          loaded.dispose();
        }
      }
    });
  }

  check('int8 inputs: no tokens, zeros, NaN and infinity', async (s, rng) => {
    const cols = 64;
    const weight = weights(rng, 3, cols).find((w) => w.label === 'affine 8-bit per row')!.weight;
    for (const [label, input] of Object.entries(INPUTS)) {
      const loaded = s.backend.load({ weight, input });
      expect((await s.read(s.linear(s.alloc(0, cols), loaded))).shape).toEqual([0, 3]);
      for (const tokens of [2, 20]) {
        const x = s.alloc(tokens, cols);
        expect(
          (await s.read(s.linear(x, loaded))).data.every((y) => y === 0),
          label,
        ).toBe(true);
        s.write(s.view(x, [0, 1], [5, 6]), matrix(Float32Array.of(Number.NaN), 1, 1));
        const found = (await s.read(s.linear(x, loaded))).data;
        const all = input.kind === 'int8' && input.per === 'tensor' && !input.static; // one scale for all
        found.forEach((y, i) => {
          expect(Number.isNaN(y), `${label}, ${i}`).toBe(all || i < 3);
        });
        s.write(s.view(x, [0, 1], [5, 6]), matrix(Float32Array.of(Number.POSITIVE_INFINITY), 1, 1));
        const static_ = input.kind === 'int8' && input.static;
        for (const y of (await s.read(s.linear(x, loaded))).data.subarray(0, 3)) expect(Number.isFinite(y), label).toBe(!!static_);
      }
      loaded.dispose();
    }
  });

  check('int8 inputs: the largest codes everywhere, exactly', async (s) => {
    const [rows, cols] = [9, 2048];
    for (const bits of [4, 8]) {
      const weight = {
        kind: 'affine' as const,
        shape: [rows, cols] as [number, number],
        bits,
        groupSize: cols,
        codes: new Uint8Array((rows * cols * bits) / 8).fill(255),
        scales: { block: [1, cols] as [number, number], format: 'fp32' as const, data: new Float32Array(rows).fill(1) },
        zeroPoints: new Uint8Array(Math.ceil((rows * bits) / 8)),
      };
      for (const symmetric of [true, false]) {
        const grid = { scale: 1, zeroPoint: symmetric ? 0 : -128 };
        const loaded = s.backend.load({ weight, input: { kind: 'int8', per: 'tensor', symmetric, static: grid } });
        for (const tokens of [1, 13]) {
          const x = s.upload(matrix(new Float32Array(tokens * cols).fill(1000), tokens, cols));
          const want = (symmetric ? 127 : 255) * (2 ** bits - 1) * cols; // below 2^28
          for (const y of (await s.read(s.linear(x, loaded))).data) expect(Math.abs(y / want - 1)).toBeLessThan(2 ** -22);
        }
        loaded.dispose();
      }
    }
  });

  check('int8 inputs that a backend refuses', async (s, rng) => {
    const cols = 64;
    const input = INPUTS['per token, symmetric']!;
    const code = (weight: SampleWeight['weight'], i: InputQuant = input) => {
      try {
        s.backend.load({ weight, input: i }).dispose();
      } catch (e) {
        return (e as LmqError).code;
      }
      return 'loaded';
    };
    for (const { label, weight } of sampleWeights(rng, 3, cols)) {
      const fits = weight.kind === 'affine' && !/act-order|fp16|powers/.test(label);
      if (!label.includes('powers')) expect(code(weight), label).toBe(fits ? 'loaded' : 'backend/unsupported');
    }
    const weight = weights(rng, 3, cols)[0]!.weight;
    const grid = { scale: 1, zeroPoint: 0 };
    for (const bad of [
      { kind: 'fp8' },
      { kind: 'llm-int8', threshold: -1 },
      { kind: 'llm-int8', threshold: Number.NaN },
      { kind: 'int8', per: 'row', symmetric: true },
      { kind: 'int8', per: 'token' },
      { kind: 'int8', per: 'token', symmetric: true, static: grid },
      { kind: 'int8', per: 'tensor', symmetric: true, static: { ...grid, zeroPoint: 1 } },
      { kind: 'int8', per: 'tensor', symmetric: false, static: { ...grid, zeroPoint: 128 } },
      { kind: 'int8', per: 'tensor', symmetric: false, static: { ...grid, scale: 0 } },
      { kind: 'int8', per: 'tensor', symmetric: false, static: { ...grid, scale: 0.1 } },
    ])
      expect(code(weight, bad as InputQuant), JSON.stringify(bad)).toBe('argument/option');
  });
}

/** Affine weights that inputs may be quantized for; 8 bits per row is what W8A8 and LLM.int8() are about. */
function weights(rng: Rng, rows: number, cols: number): SampleWeight[] {
  const data = random(rng, rows).map((v) => v / 100);
  const codes = Uint8Array.from({ length: rows * cols }, () => 1 + rng.below(255));
  return [
    ...sampleWeights(rng, rows, cols, WEIGHTS.slice(0, 3)),
    {
      label: WEIGHTS[3]!,
      weight: { kind: 'affine', shape: [rows, cols], bits: 8, groupSize: cols, codes, scales: { block: [1, cols], format: 'fp32', data } },
      values: Float64Array.from(codes, (code, i) => (code - 128) * data[Math.floor(i / cols)]!),
    },
  ];
}

/** What the input is worth after it was quantized: outliers as they are. */
function roundAs(x: Float32Array, cols: number, input: InputQuant): { rounded: Float64Array; outliers: number } {
  const rows = x.length / cols;
  const limit = input.kind === 'llm-int8' && input.threshold > 0 ? f(input.threshold) : Number.POSITIVE_INFINITY;
  const outlier = Array.from({ length: cols }, (_, c) =>
    Array.from({ length: rows }, (_, t) => x[t * cols + c]!).some((v) => Math.abs(v) >= limit),
  );
  const token = input.kind === 'llm-int8' || input.per === 'token';
  const symmetric = input.kind === 'llm-int8' || input.symmetric;
  const whole = rangeOf(x, limit);
  const rounded = new Float64Array(x.length);
  for (let t = 0; t < rows; t++) {
    const row = x.subarray(t * cols, (t + 1) * cols);
    const [low, high] = token ? rangeOf(row, limit) : whole;
    let scale = symmetric ? f(Math.max(-low, high) / 127) : f(f(high - low) / 255);
    let zero = symmetric ? 0 : Math.round(f(-low / scale)) - 128;
    if (input.kind === 'int8' && input.static) ({ scale, zeroPoint: zero } = input.static);
    row.forEach((v, c) => {
      const code = Math.min(Math.max(halfEven(f(v / scale)) + zero, symmetric ? -127 : -128), 127);
      rounded[t * cols + c] = outlier[c] ? v : scale === 0 ? 0 : (code - zero) * scale;
    });
  }
  return { rounded, outliers: outlier.filter(Boolean).length };
}

/** Of values below a limit, and 0. */
function rangeOf(x: Float32Array, limit: number): [low: number, high: number] {
  const seen = x.filter((v) => Math.abs(v) < limit);
  return [Math.min(0, ...seen), Math.max(0, ...seen)];
}

function halfEven(v: number): number {
  const below = Math.floor(v);
  return v - below > 0.5 || (v - below === 0.5 && below % 2 !== 0) ? below + 1 : below;
}
