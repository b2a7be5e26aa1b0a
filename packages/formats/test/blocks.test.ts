import { readFileSync } from 'node:fs';
import {
  affineToBlocks,
  BLOCK_ENCODERS,
  BLOCK_TYPES,
  blocksToAffine,
  countBadBlocks,
  decode,
  ENCODABLE_BLOCK_TYPES,
  encodeBlocks,
  encodeFloats,
  packRows,
  packStream,
  validate,
} from '@lmq/formats';
import { type Affine, type BlockType, createRng, ndarray } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type GridName, gridPoints } from '../src/block-types/_iq-grids.js';
import { naiveFloat } from './_bits.js';
import { thrown } from './_thrown.js';

const ALL = Object.keys(BLOCK_TYPES) as BlockType[];
const TYPES = [...ENCODABLE_BLOCK_TYPES];

// Hashes of ggml's own bytes (its `quantize_<type>`, compiled without contraction) on the row that `lcgRow(12345)` makes, without
// importances and with `1 + (s >>> 28)` of the same generator from 777 on, and on 256 zeros.
const GGML: Partial<Record<BlockType, { bytes: number; first: string; hash: string; weighted: string; zero: string }>> = {
  Q4_0: { bytes: 288, first: '5c1f80d959d9da5bcf19e784', hash: 'f621918d', weighted: 'cbf5ccda', zero: '92a9c505' },
  Q4_1: { bytes: 320, first: '901f5cab80c949d8da5acf19', hash: '3172282b', weighted: '06093ccb', zero: '02187e45' },
  Q5_0: { bytes: 352, first: '5c1bfee85bbf00a392a1a4a6', hash: '325f7f89', weighted: '56126a67', zero: '201525e5' },
  Q5_1: { bytes: 384, first: '521b5cabfee85bbf00a393a1', hash: '0aeb0d9c', weighted: '4a808d45', zero: '75a104c5' },
  Q8_0: { bytes: 544, first: '6b0f81161309212c760cf0c8', hash: '2e58abce', weighted: '2e58abce', zero: '50a34d05' },
  Q2_K: { bytes: 168, first: 'bfab8cfe3a9a7cbc8d9dbe6e', hash: '7f0a15d8', weighted: 'd44fc93f', zero: '4771c155' },
  Q3_K: { bytes: 220, first: 'bcff55aba71f39f38334a8d3', hash: '83e2785e', weighted: '16b776d4', zero: '1d1a25bd' },
  Q4_K: { bytes: 288, first: 'e7088e14b5ffeeeeb4ffa9ee', hash: 'fc31344e', weighted: '3a18c7bd', zero: '725c3305' },
  Q5_K: { bytes: 352, first: 'b004af14b1fdeeeeb2ffa8ed', hash: 'f054a845', weighted: 'd255429b', zero: 'dede1985' },
  Q6_K: { bytes: 420, first: '11f5658238db2d63ac5228fb', hash: '796f62a6', weighted: '3d1e228f', zero: '1983a40d' },
  IQ4_NL: { bytes: 288, first: '9e0f80da49d9db4bcf19e784', hash: '7bb56462', weighted: '4ce52d82', zero: 'a7a4fd05' },
  IQ4_XS: { bytes: 272, first: '4601cfc0b86a0c8980da49d9', hash: 'c84d8b17', weighted: '5a58c991', zero: 'f02e186d' },
  TQ1_0: { bytes: 108, first: '2b6480898080f262819c4783', hash: '9d7dad3f', weighted: '9d7dad3f', zero: '2300c759' },
  TQ2_0: { bytes: 132, first: '5451556555555a5155595895', hash: 'a3b66716', weighted: 'a3b66716', zero: '62cba08d' },
  MXFP4: { bytes: 272, first: '780f63d26164d567f17a0d6f', hash: 'dc7d4d59', weighted: 'dc7d4d59', zero: '90b34b65' },
  NVFP4: { bytes: 288, first: '050405069fd2e241d3445741', hash: 'd9025919', weighted: 'd9025919', zero: '725c3305' },
};
/** Made by golden/blocks.c. */
const golden: {
  rows: number;
  encode: ({ input: number | 'edges' | 'offsets' } & Record<string, string[]>)[];
  decode: Record<BlockType, string>;
} = JSON.parse(readFileSync(new URL('golden/blocks.json', import.meta.url), 'utf8'));

const FNV = 2166136261;
function fnv(bytes: Uint8Array, hash = FNV): number {
  let h = hash;
  for (const b of bytes) h = Math.imul(h ^ b, 16777619) >>> 0;
  return h;
}
const hex = (hash: number) => hash.toString(16).padStart(8, '0');

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
  const steps = [254, 16, 32, 64][seed % 4];
  const x = new Float32Array(512);
  for (let i = 0; i < 512; i += 32) {
    const extreme = 1 + (next() >>> 9) / 8388608;
    for (let j = 0; j < 32; j++) x[i + j] = (extreme * (j === 0 ? steps : ((next() >>> 8) % (2 * steps + 1)) - steps)) / steps;
  }
  return x;
}

/** The same for types with a minimum: odd multiples of half a step of a random range that begins anywhere. */
function offsetRow(seed: number): Float32Array {
  let s = seed;
  const next = () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s;
  };
  const steps = seed % 2 ? 30 : 62;
  const x = new Float32Array(512);
  for (let i = 0; i < 512; i += 32) {
    const range = 1 + (next() >>> 9) / 8388608;
    const low = (next() >>> 9) / 8388608 - 1;
    for (let j = 0; j < 32; j++) x[i + j] = low + (range * (j < 2 ? j * steps : (next() >>> 8) % (steps + 1))) / steps;
  }
  return x;
}

const goldenRow = (input: number | 'edges' | 'offsets', seed: number) =>
  input === 'edges' ? edgeRow(seed) : input === 'offsets' ? offsetRow(seed) : lcgRow(seed, input);
const encodeRow = (type: BlockType, x: Float32Array, importance?: Float32Array) => encodeBlocks(type, ndarray(x), { importance }).data;

/** Importances from 0 to 1, most of them small, an eighth of them 0. */
function importances(seed: number): Float32Array {
  let s = seed + 777;
  return Float32Array.from({ length: 512 }, () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s % 8 === 0 ? 0 : ((s >>> 8) / 2 ** 24) ** 2;
  });
}

/** Where llama.cpp accepts more than an error of 0.002 (tests/test-quantize-fns.cpp, MAX_QUANTIZATION_TOTAL_ERROR…). */
const ACCEPTANCE: Partial<Record<BlockType, number>> = { Q2_K: 0.0075, Q3_K: 0.004, TQ1_0: 0.01, TQ2_0: 0.01, NVFP4: 0.003 };

/** Half a unit of the fp16 of x, normal or subnormal. */
const halfError = (x: number) => Math.max(Math.abs(x) * 2 ** -11, 2 ** -25);
/**
 * Largest error of a block with the largest magnitude `amax` and the smallest and largest weight `min` and `max`. Not of types that search
 * scales of two levels for the least sum of errors, which bounds no single one.
 */
const BOUNDS: Partial<Record<BlockType, (amax: number, min: number, max: number) => number>> = {
  // no code for the extreme's mirror image: a whole step there, half a step elsewhere
  Q4_0: (amax) => amax / 8 + 8 * halfError(amax / 8),
  Q5_0: (amax) => amax / 16 + 16 * halfError(amax / 16),
  Q8_0: (amax) => amax / 127 / 2 + 127 * halfError(amax / 127),
  Q4_1: (_, min, max) => (max - min) / 30 + 15 * halfError((max - min) / 15) + halfError(min),
  Q5_1: (_, min, max) => (max - min) / 62 + 31 * halfError((max - min) / 31) + halfError(min),
  // a step at the mirror image, as much again because the search moves the scale by up to 1/32, and 32 codes of half a unit of the
  // 128 scales; the fp16 unit counts once per scale and code
  Q6_K: (amax) => amax / 32 + amax / 32 + (32 * amax) / 32 / 128 / 2 + 128 * 32 * halfError(amax / 32 / 128),
  TQ1_0: (amax) => amax / 2 + halfError(amax),
  TQ2_0: (amax) => amax / 2 + halfError(amax),
  // the scale is a power of two, amax 4 to 8 times as large; values end at 6
  MXFP4: (amax) => amax / 4,
  // half of the widest gap, from 4 to 6 sixths, and half a unit of 3 bits, or of the smallest scale, 6 times
  NVFP4: (amax) => amax / 6 + Math.max(amax / 16, 6 * 2 ** -10),
};

it('the generator makes the published input', () => {
  expect([...lcgRow(12345).subarray(0, 4)]).toEqual([-0.0574934483, 0.00983715057, 0.0087710619, 0.00419408083].map(Math.fround));
});

describe.each(TYPES)('%s', (type) => {
  const { blockSize, blockBytes, halves, decode: decodeBlocks, affine, hasBadScale } = BLOCK_TYPES[type];
  const { encode, encodeWeighted, largest } = BLOCK_ENCODERS[type];
  const want = GGML[type]!;

  it('makes the bytes of the reference', () => {
    const data = encodeRow(type, lcgRow(12345));
    expect(data).toHaveLength(want.bytes);
    expect(Buffer.from(data.subarray(0, 12)).toString('hex')).toBe(want.first);
    expect(hex(fnv(data))).toBe(want.hash);
  });

  it('makes the bytes of the reference with importances', () => {
    let s = 777;
    const importance = Float32Array.from({ length: 512 }, () => {
      s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
      return 1 + (s >>> 28);
    });
    expect([...importance.subarray(0, 4)]).toEqual([9, 13, 14, 7]);
    expect(hex(fnv(encodeRow(type, lcgRow(12345), importance)))).toBe(want.weighted);
  });

  it('makes the bytes of the reference for zeros, which decode to zero', () => {
    const zeros = encodeBlocks(type, ndarray(new Float32Array(256)));
    expect(hex(fnv(zeros.data))).toBe(want.zero);
    expect(decode(zeros).data.every((x) => x === 0)).toBe(true);
  });

  // normal rows times a factor; `edges` and `offsets` are where arithmetic in double instead of float32 shows
  it.each(golden.encode)(`makes the bytes of ggml on ${golden.rows} rows: $input`, (g) => {
    let plain = FNV;
    let weighted = FNV;
    for (let seed = 1; seed <= golden.rows; seed++) {
      const x = goldenRow(g.input, seed);
      plain = fnv(encodeRow(type, x), plain);
      weighted = fnv(encodeRow(type, x, importances(seed)), weighted);
    }
    expect([hex(plain), hex(weighted)]).toEqual(g[type]);
  });

  if (affine)
    it('has exact sizes, and unpack gives the codes and the scale that decode multiplies; pack is its inverse', () => {
      const { bits, pack, unpack } = affine!;
      expect(blockBytes).toBe(2 + (blockSize * bits) / 8);
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

  if (BOUNDS[type])
    it('errs by at most a step, plus what rounding the scale (and the minimum) to fp16 adds', () => {
      const n = 2 * blockSize;
      const finite = fc.float32Array({ minLength: n, maxLength: n, noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 });
      fc.assert(
        fc.property(finite, (x) => {
          const back = decode(encodeBlocks(type, ndarray(x, [2, blockSize]))).data;
          for (let b = 0; b < n; b += blockSize) {
            const block = x.subarray(b, b + blockSize);
            const min = Math.min(...block);
            const max = Math.max(...block);
            const bound = BOUNDS[type]!(Math.max(max, -min), min, max) * (1 + 1e-5); // and float32 rounding in between
            for (let j = b; j < b + blockSize; j++) if (!(Math.abs(x[j] - back[j]) <= bound)) expect.fail(`${x[j]} became ${back[j]}`);
          }
        }),
      );
    });

  it('meets llama.cpp’s acceptance bound on its own test row', () => {
    const n = 4096;
    const x = Float32Array.from({ length: n }, (_, i) => 0.1 + 2 * Math.cos(i));
    const back = decode(encodeBlocks(type, ndarray(x))).data;
    const error = Math.sqrt(x.reduce((s, v, i) => s + (v - back[i]) ** 2, 0)) / n;
    expect(error).toBeLessThan(ACCEPTANCE[type] ?? 0.002);
  });

  it('takes strided weights, and row after row', () => {
    const x = lcgRow(5);
    const columns = new Float32Array(512);
    for (let r = 0; r < 2; r++) for (let c = 0; c < 256; c++) columns[c * 2 + r] = x[r * 256 + c];
    const t = encodeBlocks(type, ndarray(columns, [2, 256], [1, 2]));
    expect(t.data).toEqual(encodeRow(type, x));
    expect(t.shape).toEqual([2, 256]);
  });

  if (affine)
    it('goes to affine and back without changing a byte or a value', () => {
      const t = encodeBlocks(type, ndarray(lcgRow(9), [4, 128]));
      const codes = blocksToAffine(t)!;
      expect(codes).toMatchObject({ bits: affine!.bits, groupSize: 32, shape: [4, 128] });
      expect(decode(codes).data).toEqual(decode(t).data);
      expect(affineToBlocks(codes, type)).toEqual(t);
    });

  if (!affine)
    it('has no affine form', () => {
      expect(blocksToAffine(encodeBlocks(type, ndarray(lcgRow(9))))).toBeNull();
    });

  it('refuses what it cannot hold', () => {
    const nan = new Float32Array(2 * blockSize);
    nan[blockSize + 8] = Number.NaN;
    const e = thrown(() => encodeBlocks(type, ndarray(nan, [2, blockSize])));
    expect(e.code).toBe('argument/value');
    expect(e.message).toContain('[1, 8]');
    nan[blockSize + 8] = Number.NEGATIVE_INFINITY;
    expect(thrown(() => encodeBlocks(type, ndarray(nan))).code).toBe('argument/value');
    for (const big of [1e9, -1e9, 1e30, 3e38].filter((x) => !largest || Math.abs(x) > largest)) {
      nan[blockSize + 8] = big; // finite, but its scale or minimum is beyond fp16
      const { code, message } = thrown(() => encodeBlocks(type, ndarray(nan)));
      expect(code).toBe('argument/value');
      expect(message).toContain(largest ? 'too large' : 'block 1');
    }
    if (largest) {
      nan[blockSize + 8] = -largest; // is held exactly
      expect(decode(encodeBlocks(type, ndarray(nan))).data[blockSize + 8]).toBe(-largest);
    }
    expect(thrown(() => encodeBlocks(type, ndarray(new Float32Array(blockSize + 1)))).code).toBe('argument/shape');
    expect(thrown(() => encodeBlocks(type, ndarray(new Float64Array(blockSize)) as never)).code).toBe('argument/value');
    expect(thrown(() => encodeBlocks('Q9_K' as BlockType, ndarray(nan))).code).toBe('argument/option');
  });

  it.each(halves)('finds a NaN or infinity in the fp16 number at byte %d', (at) => {
    const t = encodeBlocks(type, ndarray(lcgRow(9), [2, 256]));
    expect(countBadBlocks(t)).toBe(0);
    for (const b of [1, 0]) t.data.set([0, 0xfc], b * blockBytes + at);
    expect(countBadBlocks(t)).toBe(2);
    expect(thrown(() => validate(t)).message).toContain('block 0');
  });

  if (hasBadScale)
    it('finds a scale that is not finite', () => {
      const t = encodeBlocks(type, ndarray(lcgRow(9), [2, 256]));
      expect(countBadBlocks(t)).toBe(0);
      t.data[blockBytes] = 255; // E8M0's NaN
      expect(countBadBlocks(t)).toBe(1);
      expect(thrown(() => validate(t)).message).toContain('not finite');
    });

  it('takes importances of all rows, of runs of rows, and of single rows; refuses others', () => {
    const w = ndarray(lcgRow(21), [2, 256]);
    const all = importances(4).subarray(0, 256);
    const each = importances(4);
    const rows = [all, each.subarray(256)].map((importance, r) => encodeRow(type, lcgRow(21).subarray(256 * r, 256 * r + 256), importance));
    expect(encodeBlocks(type, w, { importance: each }).data).toEqual(Uint8Array.from([...rows[0]!, ...rows[1]!]));
    const twice = encodeBlocks(type, ndarray(Float32Array.of(...lcgRow(21), ...lcgRow(21)), [4, 256]), { importance: each });
    const one = encodeBlocks(type, w, { importance: all }).data;
    expect(twice.data.subarray(0, one.length)).toEqual(one);
    expect(encodeWeighted !== undefined).toBe(!Buffer.from(one).equals(encodeBlocks(type, w).data));

    const refuse = (importance: Float32Array) => thrown(() => encodeBlocks(type, w, { importance }));
    for (const length of [0, 255, 300, 768, 1024]) expect(refuse(new Float32Array(length).fill(1)).code).toBe('argument/shape');
    expect(refuse([1] as unknown as Float32Array).code).toBe('argument/shape');
    for (const bad of [Number.NaN, -1e-9, Number.POSITIVE_INFINITY]) {
      const importance = each.slice();
      importance[300] = bad;
      expect(refuse(importance).message).toContain('importance 300');
    }
    const dead = each.slice().fill(0, 256);
    expect(refuse(dead)).toMatchObject({ code: 'argument/value' });
    expect(refuse(dead).message).toContain('256 to 511');
  });

  if (encodeWeighted)
    it('says so when importances are so large that sums overflow', () => {
      const e = thrown(() => encodeRow(type, lcgRow(21), new Float32Array(512).fill(3e38)));
      expect(e.code).toBe('argument/value');
      expect(e.facts.hint).toContain('importances');
    });

  it('survives scales so small that their reciprocal overflows', () => {
    const x = new Float32Array(blockSize).fill(1e-42);
    x[3] = 0;
    const out = new Uint8Array(blockBytes);
    encode!(x, out);
    expect(decode({ kind: 'blocks', shape: [1, blockSize], type, data: out }).data.every((v) => v === 0)).toBe(true);
  });
});

describe.each(ALL)('%s', (type) => {
  const { blockSize, blockBytes, halves, decode: decodeBlocks } = BLOCK_TYPES[type];

  it('decodes any bytes to the floats of ggml', () => {
    let s = 99;
    const next = () => {
      s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
      return s >>> 24;
    };
    const data = Uint8Array.from({ length: 64 * blockBytes }, next);
    // fp16 numbers below 2; IQ1_M's is spread over several bytes, the last of which ends the block
    for (let b = 0; b < 64; b++) for (const at of type === 'IQ1_M' ? [54] : halves) data[b * blockBytes + at + 1]! &= 0xbf;
    const out = new Float32Array(64 * blockSize);
    decodeBlocks(data, out);
    expect(hex(fnv(new Uint8Array(out.buffer)))).toBe(golden.decode[type]);
  });
});

it.each(ALL.filter((type) => !Object.hasOwn(BLOCK_ENCODERS, type)))('%s is only read, and says so', (type) => {
  const e = thrown(() => encodeBlocks(type, ndarray(new Float32Array(256))));
  expect(e.code).toBe('argument/option');
  expect(blocksToAffine({ kind: 'blocks', shape: [1, 256], type, data: new Uint8Array(BLOCK_TYPES[type].blockBytes) })).toBeNull();
});

it('grids hold as many points as their numbers have bits for', () => {
  const points = (name: GridName) => gridPoints(name).length / (name.startsWith('IQ3') ? 4 : 8);
  expect((['IQ1', 'IQ2_XXS', 'IQ2_XS', 'IQ2_S', 'IQ3_XXS', 'IQ3_S'] as const).map(points)).toEqual([2048, 256, 512, 1024, 256, 512]);
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

it('Q4_1: the smallest weight is the minimum, byte j holds weight j low and weight j + 16 high', () => {
  const x = new Float32Array(32).fill(-1);
  x[1] = 14; // a range of 15, so d = 1: codes are x + 1
  x[2] = 3.5; // half a step: up
  x[17] = 5;
  const [d0, d1, m0, m1, ...qs] = encodeRow('Q4_1', x);
  expect([d0, d1, m0, m1]).toEqual([0x00, 0x3c, 0x00, 0xbc]);
  expect(qs.slice(0, 4)).toEqual([0x00, 0x6f, 0x05, 0x00]);
});

it('Q5_0 and Q5_1: bit j of the word is the fifth bit of weight j', () => {
  const x = new Float32Array(32);
  x[0] = 16; // d = -1: codes are 16 - x
  x[9] = -3; // 19
  x[31] = 5; // 11
  expect([...encodeRow('Q5_0', x)].slice(0, 6)).toEqual([0x00, 0xbc, 0xfe, 0xff, 0xff, 0x7f]);
  expect(encodeRow('Q5_0', x)[6 + 15]).toBe(0xb0); // weight 15: 16, weight 31: 11
  x[0] = 31; // m = -3, d = 34/31
  expect([...encodeRow('Q5_1', x)].slice(4, 8)).toEqual([0x01, 0, 0, 0]);
});

it('Q6_K: a weight each in the four quarters of a half, and a sub-block with a scale of its own', () => {
  const x = new Float32Array(256);
  // d = 1/4096 … codes of the extremes are 0 at scale -128: x = -128 * (0 - 32) * d
  for (const at of [3, 35, 67, 99, 131]) x[at] = 1;
  x[255] = 0.5;
  const data = encodeRow('Q6_K', x);
  expect(data[208] | (data[209] << 8)).toBe(0x0c00); // 2^-12
  expect([...data.subarray(192, 208)].map((b) => (b << 24) >> 24)).toEqual([
    -128, 0, -128, 0, -128, 0, -128, 0, -128, 0, 0, 0, 0, 0, 0, -64,
  ]);
  expect(data[3]).toBe(0x00); // weights 3 and 67: code 0
  expect(data[2]).toBe(0x00); // weights 2 and 66: code 32, its low nibble 0
  expect(data[128 + 3]).toBe(0b00000000);
  expect(data[128 + 2]).toBe(0b10101010);
  expect(decode(encodeBlocks('Q6_K', ndarray(x))).data.map((v) => v + 0)).toEqual(x); // + 0: no negative zeros
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
    [5, 'Q5_0'],
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
      [t, 'Q4_1'],
      [affine(5, 32), 'Q5_1'],
      [affine(6, 32), 'Q6_K'],
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

it('Q6_K: magnitudes whose squares overflow beside small ones are an error, not zeros', () => {
  const x = lcgRow(2).subarray(0, 256).slice();
  x[20] = 3e38;
  x[21] = 1e20;
  expect(thrown(() => encodeBlocks('Q6_K', ndarray(x, [1, 256]))).code).toBe('argument/value');
});
