import { readFileSync } from 'node:fs';
import { encodeBlocks } from '@lmq/formats';
import { BLOCK_ENCODERS } from '@lmq/formats/block-types/encoders';
import type { EncodableBlockType } from '@lmq/formats/block-types/names';
import { BLOCK_TYPES } from '@lmq/formats/block-types/table';
import { createRng, LmqError, matrix, ndarray, type Tensor } from '@lmq/tensor';
import { describe, expect, it, vi } from 'vitest';
import { createBlockEncoder } from '../src/encode-blocks.js';

const encoder = await createBlockEncoder();
const COLS = 512;
const ROWS = 128;

const golden: { rows: number; encode: ({ input: number | string } & Record<string, string[]>)[] } = JSON.parse(
  readFileSync(new URL('../../formats/test/golden/blocks.json', import.meta.url), 'utf8'),
);

/** The rows of the golden hashes: 512 numbers, near normal, sd 0.03, each the sum of three draws of a 32-bit LCG. */
function lcgRow(seed: number, factor = 1): Float32Array {
  let s = seed;
  const next = () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s >>> 12;
  };
  return Float32Array.from({ length: 512 }, () => Math.fround((next() + next() + next() - 1572864) / 2 ** 20 / 16) * Math.fround(factor));
}

function thrown(f: () => unknown): LmqError {
  try {
    f();
  } catch (e) {
    if (e instanceof LmqError) return e;
    throw e;
  }
  throw new Error('nothing was thrown');
}

type Rng = ReturnType<typeof createRng>;
const bits = new DataView(new ArrayBuffer(4));
/** The float32 with these bits. */
const float = (u: number) => {
  bits.setUint32(0, u);
  return bits.getFloat32(0);
};
const normal = (rng: Rng) => 0.03 * rng.normal();
const pick = (rng: Rng, values: number[]) => values[rng.below(values.length)]!;

/** Kinds of rows, each a generator of weights given the row's own draw. */
const KINDS: Record<string, (rng: Rng) => (i: number) => number> = {
  normal: (rng) => () => normal(rng),
  uniform: (rng) => () => rng.uniform() - 0.5,
  outliers: (rng) => () => normal(rng) * (rng.below(40) === 0 ? 100 : 1),
  'one outlier': (rng) => {
    const at = rng.below(COLS);
    return (i) => (i === at ? 3000 : normal(rng));
  },
  'of any magnitude': (rng) => () => normal(rng) * 2 ** -rng.below(40),
  'any magnitude a sub-block': (rng) => {
    const scales = Array.from({ length: COLS / 16 }, () => 2 ** (12 - rng.below(150)));
    return (i) => rng.normal() * scales[i >> 4]!;
  },
  zeros: () => () => 0,
  'zeros of both signs': (rng) => () => pick(rng, [0, -0]),
  'mostly zero': (rng) => () => (rng.below(20) === 0 ? normal(rng) : pick(rng, [0, -0])),
  'some sub-blocks zero': (rng) => {
    const zero = Array.from({ length: COLS / 16 }, () => rng.below(2));
    return (i) => (zero[i >> 4] ? 0 : normal(rng));
  },
  constant: (rng) => {
    const v = normal(rng);
    return () => v;
  },
  'constant sub-blocks': (rng) => {
    const v = Array.from({ length: COLS / 16 }, () => normal(rng));
    return (i) => v[i >> 4]!;
  },
  'of one sign': (rng) => {
    const sign = pick(rng, [1, -1]);
    return () => sign * Math.abs(normal(rng));
  },
  'far from zero': (rng) => {
    const base = 10 * rng.normal();
    return () => base + normal(rng);
  },
  'plus and minus the same': (rng) => {
    const v = normal(rng);
    return () => pick(rng, [v, -v]);
  },
  'few values': (rng) => {
    const v = Array.from({ length: 3 }, () => normal(rng));
    return () => pick(rng, v);
  },
  'halves of a step (symmetric)': (rng) => {
    const steps = pick(rng, [16, 32, 64, 254]);
    const extreme = 1 + rng.uniform();
    return (i) => (extreme * (i % 32 === 0 ? steps : rng.below(2 * steps + 1) - steps)) / steps;
  },
  'halves of a step (range)': (rng) => {
    const steps = pick(rng, [30, 62]);
    const range = 1 + rng.uniform();
    const low = rng.uniform() - 1;
    return (i) => low + (range * (i % 32 < 2 ? (i % 2) * steps : rng.below(steps + 1))) / steps;
  },
  'whole numbers': (rng) => () => rng.below(255) - 127,
  tiny: (rng) => () => rng.normal() * 1e-15,
  'smaller still': (rng) => () => rng.normal() * 1e-37,
  subnormal: (rng) => () => float((rng.below(2) << 31) | rng.below(1 << 23)),
  'the smallest subnormals': (rng) => () => pick(rng, [1, -1]) * float(rng.below(8)),
  'scales at the end of fp16': (rng) => () => rng.normal() * 2 ** -(14 + rng.below(16)),
  huge: (rng) => () => rng.normal() * 10000,
};

describe.each(encoder.types)('%s', (type) => {
  const { blockSize, blockBytes } = BLOCK_TYPES[type];

  it.each(Object.keys(KINDS))(`makes the bytes of formats on ${ROWS} rows: %s`, (kind) => {
    const data = new Float32Array(ROWS * COLS);
    for (let r = 0; r < ROWS; r++) {
      const at = KINDS[kind]!(createRng(1 + r));
      for (let i = 0; i < COLS; i++) data[r * COLS + i] = at(i);
    }
    const w = matrix(data, ROWS, COLS);
    const want = encodeBlocks(type, w);
    const got = encoder.encodeBlocks(type, w);
    const i = want.data.findIndex((b, i) => b !== got.data[i]);
    if (i >= 0) expect.fail(`byte ${i % blockBytes} of block ${Math.floor(i / blockBytes)}: ${got.data[i]} for ${want.data[i]}`);
    expect({ ...got, data: null }).toEqual({ ...want, data: null });
    expect(got.data).toHaveLength(want.data.length);
  });

  // made by formats' test/golden/blocks.c; edges and offsets are formats' own matter
  it.each(golden.encode.filter(({ input }) => typeof input === 'number'))('makes the bytes of ggml on rows of factor $input', (g) => {
    let hash = 2166136261;
    for (let seed = 1; seed <= golden.rows; seed++) {
      for (const b of encoder.encodeBlocks(type, ndarray(lcgRow(seed, g.input as number))).data) hash = Math.imul(hash ^ b, 16777619);
    }
    expect((hash >>> 0).toString(16).padStart(8, '0')).toBe(g[type]![0]);
  });

  it('does not call the encoder of formats', () => {
    const encode = vi.spyOn(BLOCK_ENCODERS[type as EncodableBlockType], 'encode');
    const w = ndarray(lcgRow(7));
    encoder.encodeBlocks(type, w);
    expect(encode).not.toHaveBeenCalled();
    encodeBlocks(type, w);
    expect(encode).toHaveBeenCalledOnce();
    encode.mockRestore();
  });

  it('encodes strided weights, of any number of blocks', () => {
    const rng = createRng(3);
    for (const rows of [1, 3, 700]) {
      const x = Float32Array.from({ length: rows * 256 }, () => normal(rng));
      const across = new Float32Array(x.length);
      for (let r = 0; r < rows; r++) for (let c = 0; c < 256; c++) across[c * rows + r] = x[r * 256 + c]!;
      const want = encodeBlocks(type, matrix(x, rows, 256));
      expect(encoder.encodeBlocks(type, ndarray(across, [rows, 256], [1, rows]))).toEqual(want);
    }
    expect(encoder.encodeBlocks(type, ndarray(new Float32Array(blockSize))).data).toHaveLength(blockBytes);
  });

  it('refuses what formats refuses, with the same words', () => {
    const refused = (w: Tensor, opts?: { importance: Float32Array }) => {
      const [ours, theirs] = [encoder.encodeBlocks, encodeBlocks].map((encode) => thrown(() => encode(type, w, opts)));
      expect(ours).toMatchObject({ code: theirs!.code, message: theirs!.message });
      return ours!.code;
    };
    expect(refused(ndarray(new Float32Array(blockSize + 1)))).toBe('argument/shape');
    expect(refused(ndarray(new Float64Array(blockSize)) as never)).toBe('argument/value');
    expect(refused(ndarray(new Float32Array(blockSize)), { importance: new Float32Array(blockSize).fill(-1) })).toBe('argument/value');
    for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY, 1e9, -1e9, 1e30, -1e30, 3e38, -3e38]) {
      const x = Float32Array.from({ length: 3 * blockSize }, (_, i) => Math.sin(i));
      x[blockSize + 8] = bad;
      expect(refused(ndarray(x, [3, blockSize])), `${bad}`).toBe('argument/value');
      x.fill(bad, blockSize, 2 * blockSize);
      x[2 * blockSize - 1] = -x[2 * blockSize - 1]!;
      expect(refused(ndarray(x, [3, blockSize])), `all ${bad}`).toBe('argument/value');
    }
  });

  it('weighs importances as formats does', () => {
    const w = ndarray(lcgRow(7), [2, 256]);
    const importance = Float32Array.from({ length: 256 }, (_, i) => 1 + (i % 5));
    expect(encoder.encodeBlocks(type, w, { importance })).toEqual(encodeBlocks(type, w, { importance }));
  });
});

it('has kernels for the types that files are mostly made of', () => {
  expect(encoder.types).toEqual(['Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K']);
});

it('leaves other types to formats', () => {
  const w = ndarray(lcgRow(7), [2, 256]);
  for (const type of ['Q2_K', 'IQ4_NL', 'MXFP4'] as const) expect(encoder.encodeBlocks(type, w)).toEqual(encodeBlocks(type, w));
  expect(thrown(() => encoder.encodeBlocks('IQ2_XS', w)).code).toBe('argument/option');
});

it('says so where WebAssembly does not run', async () => {
  const instantiate = vi.spyOn(WebAssembly, 'instantiate').mockRejectedValue(new WebAssembly.CompileError('no SIMD'));
  await expect(createBlockEncoder()).rejects.toMatchObject({ code: 'backend/unsupported' });
  instantiate.mockRestore();
});
