import { readFileSync } from 'node:fs';
import { affineToBlocks, BLOCK_TYPES, blocksToAffine, decode, encodeBlocks, encodeFloats, packRows, packStream } from '@lmq/formats';
import { type Affine, type BlockType, createRng, ndarray } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { naiveFloat } from './_bits.js';
import { thrown } from './_thrown.js';

const TYPES = Object.keys(BLOCK_TYPES) as BlockType[];

// Hashes of ggml's own bytes (its `quantize_q4_0` and `quantize_q8_0`, compiled without contraction) on the row that `lcgRow(12345)` makes,
// and on 256 zeros.
const GGML: Record<BlockType, { hash: number; bytes: number; first: string; zero: number }> = {
  Q4_0: { hash: 0xf621918d, bytes: 288, first: '5c1f80d959d9da5bcf19e784', zero: 0x92a9c505 },
  Q8_0: { hash: 0x2e58abce, bytes: 544, first: '6b0f81161309212c760cf0c8', zero: 0x50a34d05 },
};
const golden: { rows: number; hashes: ({ input: number | 'edges' } & Record<BlockType, string>)[] } = JSON.parse(
  readFileSync(new URL('golden/blocks.json', import.meta.url), 'utf8'),
);

const FNV = 2166136261;
function fnv(bytes: Uint8Array, hash = FNV): number {
  let h = hash;
  for (const b of bytes) h = Math.imul(h ^ b, 16777619) >>> 0;
  return h;
}

/** 512 numbers, near normal, sd 0.03: the sum of three draws of a 32-bit LCG. */
function lcgRow(seed: number, factor = 1): Float32Array {
  let s = seed;
  const next = () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s >>> 12;
  };
  const f = Math.fround(factor);
  return Float32Array.from({ length: 512 }, () => Math.fround((next() + next() + next() - 1572864) / 2 ** 20 / 16) * f);
}

/** Blocks whose weights lie where a code ends: odd multiples of half a step of a random extreme. */
function edgeRow(seed: number): Float32Array {
  let s = seed;
  const next = () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s;
  };
  const steps = seed % 2 ? 16 : 254;
  const x = new Float32Array(512);
  for (let i = 0; i < 512; i += 32) {
    const extreme = 1 + (next() >>> 9) / 8388608;
    for (let j = 0; j < 32; j++) x[i + j] = (extreme * (j === 0 ? steps : ((next() >>> 8) % (2 * steps + 1)) - steps)) / steps;
  }
  return x;
}

const encodeRow = (type: BlockType, x: Float32Array) => encodeBlocks(type, ndarray(x)).data;

it('the generator makes the published input', () => {
  expect([...lcgRow(12345).subarray(0, 4)]).toEqual([-0.0574934483, 0.00983715057, 0.0087710619, 0.00419408083].map(Math.fround));
});

describe.each(TYPES)('%s', (type) => {
  const { blockSize, blockBytes, bits, encode, decode: decodeBlocks, pack, unpack } = BLOCK_TYPES[type];

  it('makes the bytes of the reference', () => {
    const data = encodeRow(type, lcgRow(12345));
    expect(data).toHaveLength(GGML[type].bytes);
    expect(Buffer.from(data.subarray(0, 12)).toString('hex')).toBe(GGML[type].first);
    expect(fnv(data)).toBe(GGML[type].hash);
  });

  it('makes the bytes of the reference for zeros, which decode to zero', () => {
    const zeros = encodeBlocks(type, ndarray(new Float32Array(256)));
    expect(fnv(zeros.data)).toBe(GGML[type].zero);
    expect(decode(zeros).data.every((x) => x === 0)).toBe(true);
  });

  // normal rows times a factor; `edges` is where arithmetic in double instead of float32 shows
  it.each(golden.hashes)(`makes the bytes of C float arithmetic on ${golden.rows} rows: $input`, (g) => {
    let hash = FNV;
    for (let seed = 1; seed <= golden.rows; seed++) {
      hash = fnv(encodeRow(type, g.input === 'edges' ? edgeRow(seed) : lcgRow(seed, g.input)), hash);
    }
    expect(hash.toString(16).padStart(8, '0')).toBe(g[type]);
  });

  it('has exact sizes', () => {
    expect(blockBytes).toBe(2 + (blockSize * bits) / 8);
  });

  it('unpack gives the codes and the scale that decode multiplies; pack is its inverse', () => {
    const rng = createRng(3);
    for (let n = 0; n < 200; n++) {
      const block = Uint8Array.from({ length: blockBytes }, () => rng.below(256));
      if ((block[1] & 0x7c) === 0x7c) block[1] ^= 0x40; // keep the scale finite
      const codes = new Uint8Array(blockSize + 1);
      const scale = unpack(block, 0, codes, 1);
      const values = new Float32Array(blockSize);
      decodeBlocks(block, values);
      for (let j = 0; j < blockSize; j++) {
        expect(values[j]).toBe(Math.fround((codes[j + 1] - 2 ** (bits - 1)) * naiveFloat(scale, 'fp16')));
      }
      const back = new Uint8Array(blockBytes + 1);
      pack(scale, codes, 1, back, 1);
      expect(back.subarray(1)).toEqual(block);
    }
  });

  it('errs by at most a step, plus what rounding the scale to fp16 adds', () => {
    const finite = fc.float32Array({ minLength: 64, maxLength: 64, noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 });
    fc.assert(
      fc.property(finite, (x) => {
        const t = encodeBlocks(type, ndarray(x, [2, 32]));
        const back = decode(t).data;
        for (let b = 0; b < 64; b += 32) {
          const amax = x.subarray(b, b + 32).reduce((m, v) => Math.max(m, Math.abs(v)), 0);
          const middle = 2 ** (bits - 1);
          const d = amax / (type === 'Q4_0' ? 8 : 127);
          // Q4_0 has no code for the extreme's mirror image: a whole step there, half a step elsewhere
          const step = type === 'Q4_0' ? d : d / 2;
          const scaleError = Math.max(d * 2 ** -11, 2 ** -25) * middle; // half a unit of the fp16 scale, normal or subnormal
          const bound = (step + scaleError) * (1 + 1e-5); // and float32 rounding in between
          for (let j = b; j < b + 32; j++) expect(Math.abs(x[j] - back[j])).toBeLessThanOrEqual(bound);
        }
      }),
    );
  });

  it('meets llama.cpp’s acceptance bound on its own test row', () => {
    const n = 4096;
    const x = Float32Array.from({ length: n }, (_, i) => 0.1 + 2 * Math.cos(i));
    const back = decode(encodeBlocks(type, ndarray(x))).data;
    const error = Math.sqrt(x.reduce((s, v, i) => s + (v - back[i]) ** 2, 0)) / n;
    expect(error).toBeLessThan(0.002); // tests/test-quantize-fns.cpp, MAX_QUANTIZATION_TOTAL_ERROR
  });

  it('takes strided weights, and row after row', () => {
    const x = lcgRow(5);
    const columns = new Float32Array(512);
    for (let r = 0; r < 8; r++) for (let c = 0; c < 64; c++) columns[c * 8 + r] = x[r * 64 + c];
    const t = encodeBlocks(type, ndarray(columns, [8, 64], [1, 8]));
    expect(t.data).toEqual(encodeRow(type, x));
    expect(t.shape).toEqual([8, 64]);
  });

  it('goes to affine and back without changing a byte or a value', () => {
    const t = encodeBlocks(type, ndarray(lcgRow(9), [4, 128]));
    const affine = blocksToAffine(t);
    expect(affine).toMatchObject({ bits, groupSize: 32, shape: [4, 128] });
    expect(decode(affine).data).toEqual(decode(t).data);
    expect(affineToBlocks(affine, type)).toEqual(t);
  });

  it('refuses what it cannot hold', () => {
    const nan = new Float32Array(64);
    nan[40] = Number.NaN;
    const e = thrown(() => encodeBlocks(type, ndarray(nan, [2, 32])));
    expect(e.code).toBe('argument/value');
    expect(e.message).toContain('[1, 8]');
    nan[40] = Number.NEGATIVE_INFINITY;
    expect(thrown(() => encodeBlocks(type, ndarray(nan))).code).toBe('argument/value');
    nan[40] = 1e8; // finite, but its scale is beyond fp16
    expect(thrown(() => encodeBlocks(type, ndarray(nan))).message).toContain('block 1');
    expect(thrown(() => encodeBlocks(type, ndarray(new Float32Array(33)))).code).toBe('argument/shape');
    expect(thrown(() => encodeBlocks('Q5_0' as BlockType, ndarray(nan))).code).toBe('argument/option');
  });

  it('survives scales so small that their reciprocal overflows', () => {
    const x = new Float32Array(32).fill(1e-42);
    x[3] = 0;
    const out = new Uint8Array(blockBytes);
    encode(x, out);
    expect(decode({ kind: 'blocks', shape: [1, 32], type, data: out }).data.every((v) => v === 0)).toBe(true);
  });
});

it('Q4_0: byte j holds weight j low and weight j + 16 high; the sign of the extreme goes into the scale', () => {
  const x = new Float32Array(32);
  x[0] = 8; // extreme, so d = -1: codes are 8 - x
  x[1] = -3;
  x[17] = 5;
  const [lo, hi, ...qs] = encodeRow('Q4_0', x);
  expect([lo, hi]).toEqual([0x00, 0xbc]); // -1
  expect(qs[0]).toBe(0x80); // weight 0: code 0, weight 16: code 8
  expect(qs[1]).toBe(0x3b); // weight 1: code 11, weight 17: code 3
});

it('Q8_0: codes round half away from zero', () => {
  const x = new Float32Array(32);
  x.set([127, 0.5, -0.5, 2.5, -2.5, 1.4999]); // d = 1
  expect([...encodeRow('Q8_0', x)].slice(0, 8)).toEqual([0x00, 0x3c, 127, 1, 255, 3, 253, 1]);
});

describe('affineToBlocks', () => {
  const rng = createRng(11);
  function affine(bits: number, groupSize: number, changes: Partial<Affine> = {}): Affine {
    const [rows, cols] = [3, 128];
    const codes = Uint8Array.from({ length: rows * cols }, () => rng.below(2 ** bits));
    const groups = Math.ceil(cols / groupSize);
    const data = Uint16Array.from({ length: rows * groups }, () => rng.below(0x7c00) | (rng.below(2) << 15)); // any finite half
    return {
      kind: 'affine',
      shape: [rows, cols],
      bits,
      groupSize,
      codes: packRows(codes, bits, rows, cols),
      scales: { block: [1, groupSize], format: 'fp16', data },
      ...changes,
    };
  }

  it.each([
    [4, 'Q4_0'],
    [8, 'Q8_0'],
  ] as const)('%d-bit to %s keeps every value and copies the scales bit for bit', (bits, type) => {
    for (const groupSize of [32, 64, 128]) {
      const t = affine(bits, groupSize);
      const b = affineToBlocks(t, type);
      if (!b) return expect.fail(`null for groups of ${groupSize}`);
      expect(decode(b).data).toEqual(decode(t).data);
      const { blockBytes } = BLOCK_TYPES[type];
      for (let k = 0; k < 12; k++) {
        const stored = b.data[k * blockBytes] | (b.data[k * blockBytes + 1] << 8);
        expect(stored).toBe(t.scales.data[Math.floor((k * 32) / groupSize)]);
      }
    }
  });

  it('takes middles spelled out, an index that says nothing, scales shared by rows, and scales of other formats that are halves', () => {
    const t = affine(4, 32);
    const spelled: Affine = {
      ...t,
      zeroPoints: packStream(new Uint8Array(12).fill(8), 4),
      groupIndex: Int32Array.from({ length: 128 }, (_, c) => c >> 5),
      scales: { block: [1, 32], format: 'fp32', data: Float32Array.from(t.scales.data, (h) => naiveFloat(h, 'fp16')) },
    };
    expect(affineToBlocks(spelled, 'Q4_0')).toEqual(affineToBlocks(t, 'Q4_0'));
    const perTensor: Affine = { ...t, groupSize: 128, scales: { block: [3, 128], format: 'fp16', data: Uint16Array.of(0x2c01) } };
    const b = affineToBlocks(perTensor, 'Q4_0');
    expect(b && decode(b).data).toEqual(decode(perTensor).data);
  });

  it('is null when a value would change', () => {
    const t = affine(4, 32);
    const zeros = new Uint8Array(12).fill(8);
    zeros[7] = 9;
    const index = Int32Array.from({ length: 128 }, (_, c) => c >> 5);
    index[3] = 1;
    const bf16 = encodeFloats('bf16', new Float32Array(12).fill(1e-9)); // no half
    const no: [Affine, BlockType][] = [
      [t, 'Q8_0'],
      [affine(8, 32), 'Q4_0'],
      [affine(3, 32), 'Q4_0'],
      [affine(4, 16), 'Q4_0'],
      [{ ...t, zeroPoints: packStream(zeros, 4) }, 'Q4_0'],
      [{ ...t, groupIndex: index }, 'Q4_0'],
      [{ ...t, scales: { ...t.scales, format: 'bf16', data: bf16 } }, 'Q4_0'],
      [
        {
          ...t,
          shape: [3, 120],
          groupSize: 120,
          codes: new Uint8Array(180),
          scales: { block: [1, 120], format: 'fp16', data: new Uint16Array(3) },
        },
        'Q4_0',
      ],
    ];
    for (const [weight, type] of no) expect(affineToBlocks(weight, type)).toBeNull();
  });
});
