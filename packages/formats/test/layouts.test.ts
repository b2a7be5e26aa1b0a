import {
  bitsPerWeight,
  byteLength,
  decode,
  decodeRows,
  dense,
  encodeFloats,
  encodeMx,
  encodeTable4,
  layoutName,
  packRows,
  packStream,
  rint,
  rowBytes,
  scaleValues,
  selectRows,
  sliceRows,
  validate,
  zeroPointValues,
  zeroValues,
} from '@lmq/formats';
import {
  type Affine,
  type BlockType,
  type CompressedTensor,
  createRng,
  type LayoutKind,
  type Lut,
  type Minifloat,
  ndarray,
  type Scales,
} from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KINDS, randomTensor, valueAt } from './_cases.js';
import { thrown } from './_thrown.js';

const seeds = fc.record({
  seed: fc.nat(),
  rows: fc.integer({ min: 1, max: 7 }),
  cols: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(32, 64)),
});

/** Runs `check` on random tensors of one layout. */
function forTensors(kind: LayoutKind, check: (t: CompressedTensor, rng: ReturnType<typeof createRng>) => void): void {
  fc.assert(
    fc.property(seeds, ({ seed, rows, cols }) => {
      const rng = createRng(seed);
      check(randomTensor(rng, kind, rows, kind === 'blocks' ? [32, 64, 96, 256][cols % 4] : cols), rng);
    }),
    { numRuns: 150 },
  );
}

describe.each(KINDS)('%s', (kind) => {
  it('is valid, has a name, and decodes to its definition', () => {
    forTensors(kind, (t) => {
      validate(t);
      expect(layoutName(t)).not.toBe('');
      const [rows, cols] = t.shape;
      const w = decode(t);
      expect(w.shape).toEqual([rows, cols]);
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < cols; c++) {
          // === and not Object.is: the sign of a zero is not part of the definition
          if (w.data[r * cols + c] !== valueAt(t, r, c))
            expect.fail(`[${r}, ${c}] of ${layoutName(t)}: ${w.data[r * cols + c]}, not ${valueAt(t, r, c)}`);
        }
      }
    });
  });

  it('decodeRows gives any range of the same rows and leaves the rest of out alone', () => {
    forTensors(kind, (t, rng) => {
      const [rows, cols] = t.shape;
      const from = rng.below(rows + 1);
      const to = from + rng.below(rows - from + 1);
      const out = new Float32Array((to - from) * cols + 2).fill(7);
      decodeRows(t, from, to, out);
      expect(out.subarray(0, (to - from) * cols)).toEqual(decode(t).data.subarray(from * cols, to * cols));
      expect([...out.subarray((to - from) * cols)]).toEqual([7, 7]);
    });
  });

  it('selectRows is valid and gathers exactly those rows', () => {
    forTensors(kind, (t, rng) => {
      const [rows, cols] = t.shape;
      const index = Array.from({ length: 1 + rng.below(2 * rows) }, () => rng.below(rows));
      if (rng.below(2)) index.sort((a, b) => a - b);
      const before = decode(t).data;
      const picked = selectRows(t, index);
      validate(picked);
      expect(picked.shape).toEqual([index.length, cols]);
      const got = decode(picked).data;
      index.forEach((r, i) => {
        expect(got.subarray(i * cols, (i + 1) * cols)).toEqual(before.subarray(r * cols, (r + 1) * cols));
      });
      expect(decode(t).data).toEqual(before);
    });
  });

  it('sliceRows of all rows keeps values and size', () => {
    forTensors(kind, (t) => {
      const before = decode(t).data;
      const all = sliceRows(t, 0, t.shape[0]);
      expect(decode(all).data).toEqual(before);
      expect(byteLength(all)).toBe(byteLength(t));
    });
  });
});

describe('sizes', () => {
  const rows = 6;
  const fp8 = (rows: number, cols: number, scales: Scales): Minifloat => ({
    kind: 'minifloat',
    shape: [rows, cols],
    format: 'fp8e4m3',
    codes: new Uint8Array(rows * cols),
    scales,
  });
  function affine(bits: number, cols: number, groupSize: number, extra: Partial<Affine> = {}): Affine {
    const groups = Math.ceil(cols / groupSize);
    return {
      kind: 'affine',
      shape: [rows, cols],
      bits,
      groupSize,
      codes: new Uint8Array(rows * rowBytes(cols, bits)),
      scales: { block: [1, groupSize], format: 'fp16', data: new Uint16Array(rows * groups) },
      ...extra,
    };
  }
  const zeros = (bits: number, n: number) => packStream(new Uint8Array(n), bits);

  it.each<[string, CompressedTensor, number, string]>([
    ['bf16', dense('bf16', new Uint16Array(12), 3, 4), 16, 'bf16'],
    ['fp32', dense('fp32', new Float32Array(12), 3, 4), 32, 'fp32'],
    ['MXFP4', encodeMx('fp4e2m1', ndarray(new Float32Array(512), [2, 256])), 4.25, 'fp4e2m1, scales 1x32 e8m0'],
    ['MXFP6', encodeMx('fp6e3m2', ndarray(new Float32Array(512), [2, 256])), 6.25, 'fp6e3m2, scales 1x32 e8m0'],
    ['MXFP8', encodeMx('fp8e5m2', ndarray(new Float32Array(512), [2, 256])), 8.25, 'fp8e5m2, scales 1x32 e8m0'],
    ['fp8 in tiles', fp8(4, 64, { block: [4, 32], format: 'bf16', data: new Uint16Array(2) }), 8.125, 'fp8e4m3, scales 4x32'],
    ['fp6, rows that end inside a byte', { kind: 'minifloat', shape: [2, 3], format: 'fp6e2m3', codes: new Uint8Array(6) }, 8, 'fp6e2m3'],
    ['4-bit sym g128', affine(4, 256, 128), 4 + 16 / 128, 'affine 4-bit g128 sym'],
    ['4-bit asym g128', affine(4, 256, 128, { zeroPoints: zeros(4, 12) }), 4.15625, 'affine 4-bit g128 asym'],
    ['3-bit asym g32', affine(3, 64, 32, { zeroPoints: zeros(3, 12) }), 3 + 16 / 32 + (8 * 5) / (6 * 64), 'affine 3-bit g32 asym'], // 36 bits in 5 bytes
    ['3-bit, rows that end inside a byte', affine(3, 10, 10), (8 * (4 + 2)) / 10, 'affine 3-bit per row sym'],
    [
      'act-order',
      affine(4, 256, 128, { groupIndex: new Int32Array(256) }),
      (8 * (rows * (128 + 4) + 4 * 256)) / (rows * 256),
      'affine 4-bit g128 sym act-order',
    ],
    [
      'fp32 scale per tensor',
      affine(8, 64, 64, { scales: { block: [rows, 64], format: 'fp32', data: new Float32Array(1) } }),
      8 + 32 / (rows * 64),
      'affine 8-bit per tensor sym',
    ],
    [
      'scale per 3 x 32',
      affine(8, 64, 32, { scales: { block: [3, 32], format: 'fp16', data: new Uint16Array(4) } }),
      8 + 16 / 96,
      'affine 8-bit b3x32 sym',
    ],
    ...(Object.entries({
      Q4_0: 4.5,
      Q4_1: 5,
      Q5_0: 5.5,
      Q5_1: 6,
      Q8_0: 8.5,
      Q2_K: 2.625,
      Q3_K: 3.4375,
      Q4_K: 4.5,
      Q5_K: 5.5,
      Q6_K: 6.5625,
      IQ4_NL: 4.5,
      IQ4_XS: 4.25,
      TQ1_0: 1.6875,
      TQ2_0: 2.0625,
      MXFP4: 4.25,
      NVFP4: 4.5,
      IQ1_S: 1.5625,
      IQ1_M: 1.75,
      IQ2_XXS: 2.0625,
      IQ2_XS: 2.3125,
      IQ2_S: 2.5625,
      IQ3_XXS: 3.0625,
      IQ3_S: 3.4375,
    } satisfies Record<BlockType, number>).map(([type, bits]) => [
      type,
      { kind: 'blocks', shape: [2, 256], type, data: new Uint8Array((512 * bits) / 8) },
      bits,
      type,
    ]) as [string, CompressedTensor, number, string][]),
  ])('%s', (_, t, bits, name) => {
    validate(t);
    expect(bitsPerWeight(t)).toBe(bits);
    expect(byteLength(t)).toBe((bits * t.shape[0] * t.shape[1]) / 8);
    expect(layoutName(t)).toBe(name);
  });

  it('count tables, indices, input scales and everything nested', () => {
    const lut: Lut = {
      kind: 'lut',
      shape: [rows, 64],
      bits: 4,
      codes: new Uint8Array(rows * 32),
      tables: ndarray(new Float32Array(rows * 16), [rows, 16]),
      tablePer: 'row',
      scales: { block: [1, 32], format: 'bf16', data: new Uint16Array(rows * 2) },
    };
    const lutBytes = rows * 32 + rows * 16 * 4 + rows * 2 * 2;
    expect(byteLength(lut)).toBe(lutBytes);
    const d = dense('fp16', new Uint16Array(rows * 64), rows, 64);
    expect(byteLength({ kind: 'sum', shape: [rows, 64], terms: [lut, d] })).toBe(lutBytes + rows * 64 * 2);
    expect(byteLength({ kind: 'rescaled', shape: [rows, 64], inputScale: new Float32Array(64), base: lut })).toBe(lutBytes + 256);
    const parts: CompressedTensor = {
      kind: 'parts',
      shape: [rows, 65],
      axis: 'in',
      parts: [
        { index: Uint32Array.of(64), base: dense('fp16', new Uint16Array(rows), rows, 1) },
        { index: Uint32Array.from({ length: 64 }, (_, i) => i), base: lut },
      ],
    };
    validate(parts);
    expect(byteLength(parts)).toBe(4 * 65 + rows * 2 + lutBytes);
    expect(layoutName(parts)).toBe('parts(in: 1 x fp16, 64 x lut 4-bit per row, scales 1x32)');
    expect(layoutName({ kind: 'rescaled', shape: [rows, 64], inputScale: new Float32Array(64), base: d })).toBe('rescaled(fp16)');
    expect(layoutName({ kind: 'sum', shape: [rows, 64], terms: [d, d] })).toBe('sum(fp16 + fp16)');
  });

  it('gathering keeps a scale that rows share when the blocks allow', () => {
    const data = Uint16Array.of(0x3c00, 0x4000, 0x4200);
    const t = affine(8, 8, 8, { scales: { block: [2, 8], format: 'fp16', data } });
    const block = (index: number[]) => (selectRows(t, index) as Affine).scales.block[0];
    expect(block([4, 5, 0, 1])).toBe(2);
    expect(block([1, 1, 4])).toBe(2);
    expect(block([1, 2])).toBe(1);
    const one = affine(8, 8, 8, { scales: { block: [rows, 8], format: 'fp16', data: data.slice(0, 1) } });
    expect((selectRows(one, [3, 3, 0]) as Affine).scales).toMatchObject({ block: [3, 8], data: data.slice(0, 1) });
  });
});

describe('gathered runs of scales', () => {
  const w = ndarray(
    Float32Array.from({ length: 48 * 96 }, (_, i) => Math.sin(i) * (1 + (i % 7))),
    [48, 96],
  );
  const scalesOf = (t: CompressedTensor) => (t as Lut).scales!;

  it('keep their length from where a run begins, and else fall to what fits into rows', () => {
    const t = encodeTable4('nf4', w); // 96 columns: runs of 64 end in the middle of every second row
    expect(scalesOf(sliceRows(t, 2, 5)).block).toEqual({ flat: 64 });
    expect(scalesOf(sliceRows(t, 1, 5)).block).toEqual({ flat: 32 });
    expect(scalesOf(selectRows(t, [2, 3, 5])).block).toEqual({ flat: 32 });
    expect(scalesOf(sliceRows(encodeTable4('nf4', w, { blockSize: 192 }), 0, 1)).block).toEqual({ flat: 96 });
  });

  it('keep outer scales from where a run of theirs begins, and else store the scales in use', () => {
    const t = encodeTable4('nf4', w, { blockSize: 16, doubleQuant: true }); // 6 scales a row, 256 to an outer one
    const first = scalesOf(sliceRows(t, 0, 47));
    expect(first.format).toBe('table8');
    expect(first.outer!.scales.data).toHaveLength(2);
    const later = scalesOf(sliceRows(t, 1, 3));
    expect(later).toMatchObject({ block: { flat: 16 }, format: 'fp32', data: scaleValues(scalesOf(t), 6, 18) });
    expect(later.outer).toBeUndefined();
  });
});

describe('affine codes rounded to nearest', () => {
  it('are within half a step of every weight that the grid reaches', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 8 }), fc.constantFrom(8, 13, 32), (seed, bits, groupSize) => {
        const rng = createRng(seed);
        const [rows, cols] = [3, 40];
        const groups = Math.ceil(cols / groupSize);
        const scale = Float32Array.from({ length: rows * groups }, () => Math.fround(0.01 + rng.uniform()));
        const zero = Uint8Array.from(scale, () => rng.below(2 ** bits));
        const at = (i: number) => Math.floor(i / cols) * groups + Math.floor((i % cols) / groupSize);
        const w = Float32Array.from({ length: rows * cols }, (_, i) => (rng.uniform() * (2 ** bits - 1) - zero[at(i)]) * scale[at(i)]);
        const codes = Uint8Array.from(w, (x, i) => Math.min(2 ** bits - 1, Math.max(0, rint(x / scale[at(i)]) + zero[at(i)])));
        const t: Affine = {
          kind: 'affine',
          shape: [rows, cols],
          bits,
          groupSize,
          codes: packRows(codes, bits, rows, cols),
          scales: { block: [1, groupSize], format: 'fp32', data: encodeFloats('fp32', scale) },
          zeroPoints: packStream(zero, bits),
        };
        validate(t);
        const back = decode(t).data;
        w.forEach((x, i) => {
          // 2^-24 of the value: the float32 rounding of w and of the product
          expect(Math.abs(x - back[i])).toBeLessThanOrEqual(scale[at(i)] / 2 + Math.abs(x) * 2 ** -23);
        });
      }),
    );
  });
});

describe('refuses', () => {
  const t = dense('fp32', new Float32Array(12), 3, 4);
  it.each<[string, () => unknown, string]>([
    ['rows before the first', () => decodeRows(t, -1, 1, new Float32Array(12)), 'argument/shape'],
    ['rows after the last', () => decodeRows(t, 2, 4, new Float32Array(12)), 'argument/shape'],
    ['a range backwards', () => decodeRows(t, 2, 1, new Float32Array(12)), 'argument/shape'],
    ['parts of rows', () => decodeRows(t, 0, 1.5, new Float32Array(12)), 'argument/shape'],
    ['a short out', () => decodeRows(t, 0, 3, new Float32Array(11)), 'argument/shape'],
    ['no rows', () => selectRows(t, []), 'argument/shape'],
    ['an empty slice', () => sliceRows(t, 1, 1), 'argument/shape'],
    ['a slice beyond the end', () => sliceRows(t, 1, 4), 'argument/shape'],
    ['a row that is not there', () => selectRows(t, [0, 3]), 'argument/value'],
    ['a negative row', () => selectRows(t, [-1]), 'argument/value'],
    ['data that does not fill', () => dense('fp32', new Float32Array(11), 3, 4), 'argument/shape'],
    ['data of another kind', () => dense('bf16', new Float32Array(12), 3, 4), 'argument/value'],
    [
      'an unknown layout',
      () => decodeRows({ ...t, kind: 'constructor' } as unknown as typeof t, 0, 1, new Float32Array(12)),
      'argument/value',
    ],
    ['an unknown layout', () => byteLength({ ...t, kind: 'sparse' } as unknown as typeof t), 'argument/value'],
  ])('%s', (_, f, code) => {
    expect(thrown(f).code).toBe(code);
  });
});

it('zero points as integers: those that are', () => {
  const t: Affine = {
    kind: 'affine',
    shape: [2, 4],
    bits: 2,
    groupSize: 2,
    codes: new Uint8Array(2),
    scales: { block: [1, 2], format: 'fp32', data: Float32Array.of(1, 2, 3, 4) },
    zeroPoints: { format: 'bf16', data: Uint16Array.of(0, 0x3f80, 0x4040, 0x3f00) }, // 0, 1, 3, 0.5
  };
  expect(zeroValues(t, 0, 4)).toEqual(Float32Array.of(0, 1, 3, 0.5));
  expect(zeroPointValues(t, 1, 2)).toEqual(Uint8Array.of(1, 3));
  expect(() => zeroPointValues(t, 2, 2)).toThrow(/zero point 3 is not an integer of 2 bits/);
  expect(layoutName(t)).toBe('affine 2-bit g2 asym bf16');
  expect(byteLength(t)).toBe(2 + 16 + 8);
  expect(zeroPointValues({ ...t, zeroPoints: undefined }, 0, 1)).toEqual(Uint8Array.of(2));
});
