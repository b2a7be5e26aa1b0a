import {
  AF4,
  BITSANDBYTES_FP4,
  bitsPerWeight,
  byteLength,
  decode,
  dynamicMap8,
  encodeTable4,
  layoutName,
  NF4,
  packBitsandbytes4,
  quantizeBlockwise,
  scaleValues,
  unpackBitsandbytes4,
  unpackRows,
  validate,
} from '@lmq/formats';
import { createRng, type Lut, matrix, ndarray } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { fnv, golden, onEdges, weights } from './_golden.js';
import { thrown } from './_thrown.js';

const TABLES = { nf4: NF4, fp4: BITSANDBYTES_FP4, af4: AF4 };
const codesOf = (t: Lut) => unpackRows(t.codes, 4, t.shape[0], t.shape[1]);

describe('tables', () => {
  it.each(Object.entries(TABLES))('%s is that of bitsandbytes', (name, table) => {
    expect([...table]).toEqual(golden.tables[name]);
  });

  it('NF4 has the quantiles it is defined by', () => {
    // 8 of the positive half and 7 of the negative, of the normal distribution from 0.5 to 0.9677083, over the largest
    const quantile = (p: number) => {
      let [lo, hi] = [0, 4];
      for (let i = 0; i < 60; i++) {
        const mid = (lo + hi) / 2;
        // Φ by Simpson's rule
        let area = 0;
        for (let k = 0; k <= 2000; k++) {
          const weight = k === 0 || k === 2000 ? 1 : k % 2 ? 4 : 2;
          area += weight * Math.exp(-((mid * k) ** 2) / 2 / 2000 ** 2);
        }
        if (0.5 + (area * mid) / 2000 / 3 / Math.sqrt(2 * Math.PI) < p) lo = mid;
        else hi = mid;
      }
      return lo;
    };
    const offset = 0.9677083;
    const points = (n: number) => Array.from({ length: n }, (_, i) => quantile(offset + ((0.5 - offset) * i) / n));
    const top = quantile(offset);
    const want = [
      ...points(7).map((x) => -x / top),
      0,
      ...points(8)
        .map((x) => x / top)
        .reverse(),
    ];
    want.forEach((x, i) => {
      expect(Math.abs(NF4[i]! - x)).toBeLessThan(2e-7);
    });
  });

  it('the dynamic 8-bit maps are those of bitsandbytes, bit for bit', () => {
    expect(fnv(dynamicMap8(true))).toBe(golden.dynamic.signed);
    expect(fnv(dynamicMap8(false))).toBe(golden.dynamic.unsigned);
    const map = dynamicMap8(true);
    expect(map.filter((x) => x < 0)).toHaveLength(127);
    expect(map.filter((x) => x > 0)).toHaveLength(128);
    expect([map[0], map[127], map[255]]).toEqual([Math.fround(-0.99296874), 0, 1]);
    expect(dynamicMap8(false)[0]).toBe(0);
  });
});

describe('4-bit weights', () => {
  const inputs: Record<string, (table: keyof typeof TABLES) => [Float32Array, number, number]> = {
    weights: () => [weights(7, 24, 256), 24, 256],
    odd: () => [weights(8, 7, 50), 7, 50],
    large: () => [weights(9, 96, 512), 96, 512],
    edges: (table) => [onEdges(TABLES[table], 64), 1, 64],
    zeros: () => [new Float32Array(128), 2, 64],
  };

  it.each(golden.bitsandbytes)('$table, $input, blocks of $blockSize: codes, scales and weights of bitsandbytes', (g) => {
    const [w, rows, cols] = inputs[g.input]!(g.table);
    const t = encodeTable4(g.table, matrix(w, rows, cols), { blockSize: g.blockSize });
    validate(t);
    expect(fnv(packBitsandbytes4(codesOf(t)))).toBe(g.packed);
    expect(fnv(scaleValues(t.scales!))).toBe(g.absmax);
    expect(fnv(decode(t).data)).toBe(g.decoded);

    const twice = encodeTable4(g.table, matrix(w, rows, cols), { blockSize: g.blockSize, doubleQuant: true });
    validate(twice);
    expect(twice.codes).toEqual(t.codes);
    const outer = twice.scales!.outer!;
    // PyTorch adds in float32, in an order of its own
    expect(Math.abs(outer.offset - g.double.offset)).toBeLessThanOrEqual(g.double.offset * 2 ** -22);
    if (outer.offset !== g.double.offset) {
      // the rest as if the mean were theirs
      const inner = quantizeBlockwise(
        scaleValues(t.scales!).map((x) => x - g.double.offset),
        dynamicMap8(true),
        256,
      );
      twice.scales!.data = inner.codes;
      outer.scales.data = inner.absmax;
      outer.offset = g.double.offset;
    }
    expect(fnv(twice.scales!.data)).toBe(g.double.scales);
    expect(fnv(outer.scales.data)).toBe(g.double.nested);
    expect(fnv(decode(twice).data)).toBe(g.double.decoded);
  });

  it('err on normal weights as published', () => {
    // bitsandbytes tests/test_functional.py: mean error of 1024 x 1024 normal numbers by block size
    const published = {
      nf4: { 32: 0.067746, 64: 0.072798, 256: 0.080337, 4096: 0.092547 },
      fp4: { 32: 0.088925, 64: 0.096543, 256: 0.108684, 4096: 0.129536 },
    };
    const rng = createRng(4);
    const w = Float32Array.from({ length: 512 * 512 }, rng.normal);
    for (const table of ['nf4', 'fp4'] as const) {
      for (const [blockSize, want] of Object.entries(published[table])) {
        const back = decode(encodeTable4(table, matrix(w, 512, 512), { blockSize: Number(blockSize) })).data;
        const error = w.reduce((sum, x, i) => sum + Math.abs(x - back[i]!), 0) / w.length;
        expect(Math.abs(error / want - 1)).toBeLessThan(0.01);
      }
    }
  });

  it('cost what they store', () => {
    const w = matrix(weights(1, 64, 512), 64, 512);
    const plain = encodeTable4('nf4', w);
    expect(layoutName(plain)).toBe('lut 4-bit per tensor, scales flat 64');
    expect(byteLength(plain)).toBe(64 * 256 + 64 + 512 * 4);
    const twice = encodeTable4('nf4', w, { doubleQuant: true });
    expect(layoutName(twice)).toBe('lut 4-bit per tensor, scales flat 64 table8');
    expect(byteLength(twice)).toBe(64 * 256 + 64 + 512 + 1024 + 2 * 4 + 4);
    expect(bitsPerWeight(encodeTable4('nf4', w, { blockSize: 4096 }))).toBeCloseTo(4 + 32 / 4096 + (64 * 8) / 32768, 10);
  });

  it('double quantization loses little', () => {
    const w = weights(3, 64, 256);
    const once = decode(encodeTable4('nf4', matrix(w, 64, 256))).data;
    const twice = decode(encodeTable4('nf4', matrix(w, 64, 256), { doubleQuant: true })).data;
    const error = (back: Float32Array) => Math.sqrt(w.reduce((s, x, i) => s + (x - back[i]!) ** 2, 0));
    expect(error(twice) / error(once)).toBeLessThan(1.02);
    expect(error(twice)).not.toBe(error(once));
  });

  it('take strided weights, and blocks that cross rows or hold the whole weight', () => {
    const w = weights(5, 6, 10);
    const turned = Float32Array.from({ length: 60 }, (_, i) => w[(i % 6) * 10 + Math.floor(i / 6)]!);
    const t = encodeTable4('af4', ndarray(turned, [6, 10], [1, 6]), { blockSize: 16 });
    expect(decode(t).data).toEqual(decode(encodeTable4('af4', matrix(w, 6, 10), { blockSize: 16 })).data);
    const whole = encodeTable4('nf4', matrix(w, 6, 10), { blockSize: 64, doubleQuant: true });
    validate(whole);
    expect(whole.scales!.block).toEqual({ flat: 60 });
  });

  it('refuse what they cannot hold', () => {
    const w = matrix(Float32Array.of(1, Number.NaN), 1, 2);
    expect(thrown(() => encodeTable4('nf4', w)).message).toContain('weight [0, 1]');
    expect(thrown(() => encodeTable4('nf4', matrix(Float32Array.of(Number.POSITIVE_INFINITY, 1), 1, 2))).code).toBe('argument/value');
    expect(thrown(() => encodeTable4('nf5' as 'nf4', w)).code).toBe('argument/option');
    const ok = matrix(Float32Array.of(1, 2), 1, 2);
    for (const blockSize of [0, -64, 1.5]) expect(thrown(() => encodeTable4('nf4', ok, { blockSize })).code).toBe('argument/option');
  });
});

describe('quantizeBlockwise', () => {
  it.each(golden.blockwise)('$input, signed $signed: the 8-bit codes of bitsandbytes', (g) => {
    const map = dynamicMap8(g.signed);
    const made: Record<string, () => Float32Array> = {
      weights: () => weights(10, 1, 4096),
      edges: () => onEdges(map, 1024),
      odd: () => weights(11, 1, 700),
    };
    const v = made[g.input]!();
    const { codes, absmax } = quantizeBlockwise(g.signed ? v : v.map(Math.abs), map, 256);
    expect(fnv(codes)).toBe(g.codes);
    expect(fnv(absmax)).toBe(g.absmax);
  });

  it('gives the code of a nearest value, of two the smaller', () => {
    const rng = createRng(8);
    const table = [0.5, -1, 0, 1, -0.25];
    const v = Float32Array.from({ length: 1000 }, () => rng.uniform() * 2 - 1);
    const { codes, absmax } = quantizeBlockwise(v, table, 100);
    v.forEach((x, i) => {
      const scaled = x / absmax[Math.floor(i / 100)]!;
      const best = Math.min(...table.map((t) => Math.abs(t - scaled)));
      expect(Math.abs(table[codes[i]!]! - scaled)).toBeLessThan(best + 1e-6);
    });
    expect([...quantizeBlockwise(Float32Array.of(1, 0.75, 0.25), [0, 0.5, 1], 3).codes]).toEqual([2, 1, 0]);
  });
});

describe('packed pairs', () => {
  it('have the first code in the upper half', () => {
    expect([...packBitsandbytes4(Uint8Array.of(1, 2, 3))]).toEqual([0x12, 0x30]);
    expect([...unpackBitsandbytes4(Uint8Array.of(0x12, 0x30), 3)]).toEqual([1, 2, 3]);
    expect(thrown(() => packBitsandbytes4(Uint8Array.of(16))).code).toBe('argument/value');
    expect(thrown(() => unpackBitsandbytes4(Uint8Array.of(1), 3)).code).toBe('argument/shape');
    expect(thrown(() => unpackBitsandbytes4(Uint8Array.of(1, 2), 2)).code).toBe('argument/shape');
  });
});
