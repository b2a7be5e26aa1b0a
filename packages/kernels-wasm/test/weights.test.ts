import { BLOCK_TYPES, decode } from '@lmq/formats';
import { type Backend, type BlockType, type CompressedTensor, createRng, isLmqError, matrix, type Rng } from '@lmq/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { wasmBackend } from '../src/index.js';
import { affine, BLOCK_NAMES, BLOCKS, blockSizes, LAYOUTS, random, SIZES, spread } from './layouts.js';

// Layouts × rows of x × odd sizes, against a float64 product with the weight that @lmq/formats decodes (tested there on its own).
// 16 * 2^-24: as in conformance.test.ts. Integer kernels multiply unsigned codes and take the zero point away at the end, which at worst
// doubles the terms' magnitude for 4 bits (0 … 15 against -8 … 7): counted through `spread`.
const RELATIVE = 16 * 2 ** -24;

let backend: Backend;
beforeAll(async () => {
  backend = await wasmBackend();
});

/** `strict`: against the magnitude of the decoded terms instead, whatever the kernels add. */
async function check(
  make: (rng: Rng, rows: number, cols: number) => CompressedTensor,
  sizes: [number, number][],
  seed: number,
  strict = false,
) {
  const rng = createRng(seed);
  for (const [rows, cols] of sizes) {
    const weight = make(rng, rows, cols);
    const w = decode(weight).data;
    const magnitude = Float64Array.from(w, (v, i) => (strict ? Math.abs(v) : spread(weight, Math.floor(i / cols), i % cols, v)));
    const bias = random(rng, rows);
    const loaded = backend.load({ weight, bias });
    for (const tokens of [1, 2, 3, 4, 6, 7, 64]) {
      const s = backend.scope();
      const around = random(rng, tokens * (cols + 3));
      const x = s.view(s.upload(matrix(around, tokens, cols + 3)), [0, tokens], [2, cols + 2]);
      const got = (await s.read(s.linear(x, loaded))).data;
      for (let t = 0; t < tokens; t++) {
        for (let r = 0; r < rows; r++) {
          let want = bias[r]!;
          let size = Math.abs(want);
          for (let c = 0; c < cols; c++) {
            const a = around[t * (cols + 3) + 2 + c]!;
            want += a * w[r * cols + c]!;
            size += Math.abs(a) * magnitude[r * cols + c]!;
          }
          if (!(Math.abs(got[t * rows + r]! - want) <= RELATIVE * size))
            expect.fail(`${rows} x ${cols}, ${tokens} tokens, [${t}, ${r}]: got ${got[t * rows + r]}, want ${want} ± ${RELATIVE * size}`);
        }
      }
      s.dispose();
    }
    const s = backend.scope();
    const ids = [rows - 1, 0, rows >> 1];
    const rowsGot = (await s.read(s.embedding(loaded, ids))).data;
    for (const [i, id] of ids.entries()) expect(rowsGot.subarray(i * cols, (i + 1) * cols)).toEqual(w.subarray(id * cols, (id + 1) * cols));
    s.dispose();
    loaded.dispose();
  }
}

describe('linear and embedding', () => {
  for (const [label, make] of Object.entries(LAYOUTS)) it(label, () => check(make, SIZES, label.length * 31 + label.charCodeAt(0)));

  for (const type of BLOCK_NAMES) {
    for (const [label, make] of Object.entries(BLOCKS)) {
      it(`${type}, ${label}`, () =>
        check((rng, r, c) => make(type, rng, r, c), blockSizes(type), label.length, label.startsWith('encoded')));
    }

    it(`${type}: several blocks of rows and columns`, () => check((rng, r, c) => BLOCKS.encoded!(type, rng, r, c), [[530, 768]], 3, true));
  }

  it('blocks become codes once: bytes are those of codes, scales and minimums, and the source is not needed again', async () => {
    // per weight: a code of 4 or 8 bits; per group a float32 scale, and a minimum where there is one. And 32 bytes that kernels may read.
    const bytes: Partial<Record<BlockType, number>> = {
      Q4_0: 1 / 2 + 4 / 32,
      Q4_1: 1 / 2 + 8 / 32,
      Q5_0: 1 + 4 / 32,
      Q5_1: 1 + 8 / 32,
      Q8_0: 1 + 4 / 32,
      Q3_K: 1 + 4 / 16,
      Q4_K: 1 / 2 + 8 / 32,
      Q5_K: 1 + 8 / 32,
      Q6_K: 1 + 4 / 16,
    };
    for (const [type, perWeight] of Object.entries(bytes) as [BlockType, number][]) {
      const weight = BLOCKS.encoded!(type, createRng(1), 24, 512);
      const want = decode(weight).data;
      const loaded = backend.load({ weight, bias: new Float32Array(24) });
      expect(loaded.bytes).toBe(24 * 512 * perWeight + 32 + 24 * 4);
      weight.data.fill(0);
      const s = backend.scope();
      expect((await s.read(s.embedding(loaded, [23]))).data).toEqual(want.subarray(23 * 512));
      s.dispose();
      loaded.dispose();
    }
  });

  it('refuses blocks with a scale or minimum that is not finite', () => {
    for (const type of BLOCK_NAMES) {
      for (const at of BLOCK_TYPES[type].halves) {
        const weight = BLOCKS.encoded!(type, createRng(1), 2, 256);
        weight.data[at + 1] = 0x7c;
        expect(() => backend.load({ weight })).toThrow(/not finite/);
      }
    }
  });

  it.each(['fp16', 'bf16'] as const)('all 65536 patterns of %s decode exactly, infinities and NaN too', async (format) => {
    const data = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const weight: CompressedTensor = { kind: 'dense', shape: [256, 256], format, data };
    const loaded = backend.load({ weight });
    const s = backend.scope();
    const got = (
      await s.read(
        s.embedding(
          loaded,
          Array.from({ length: 256 }, (_, i) => i),
        ),
      )
    ).data;
    const want = decode(weight).data;
    for (let i = 0; i < 65536; i++) if (!Object.is(got[i], want[i])) expect.fail(`pattern ${i}: got ${got[i]}, want ${want[i]}`);
    s.dispose();
    loaded.dispose();
  });

  it('refuses weights whose parts do not fit', () => {
    const weight = affine(createRng(1), 4, 8, 4, 8);
    const code = (work: () => unknown) => {
      try {
        work();
      } catch (e) {
        return isLmqError(e) && e.code;
      }
    };
    expect(code(() => backend.load({ weight: { ...weight, codes: weight.codes.subarray(1) } }))).toBe('argument/shape');
    const order = Int32Array.of(0, 0, 0, 0, 0, 0, 0, 9);
    expect(code(() => backend.load({ weight: { ...weight, groupIndex: order } }))).toBe('argument/value');
  });

  it('keeps 4-bit weights compressed', () => {
    const loaded = backend.load({ weight: affine(createRng(1), 512, 512, 4, 128) });
    expect(loaded.bytes).toBeLessThan(512 * 512 * 0.6); // half a byte each, and a float per 128
    loaded.dispose();
  });
});
