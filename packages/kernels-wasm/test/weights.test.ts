import { decode, packStream } from '@lmq/formats';
import type { Backend } from '@lmq/tensor';
import { type Affine, type CompressedTensor, createRng, isLmqError, matrix, type Rng } from '@lmq/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { wasmBackend } from '../src/index.js';

// Layouts × rows of x × odd sizes, against a float64 product with the weight that @lmq/formats decodes (tested there on its own).
// 16 * 2^-24: as in conformance.test.ts. Integer kernels multiply unsigned codes and take the zero point away at the end, which at worst
// doubles the terms' magnitude for 4 bits (0 … 15 against -8 … 7): counted through `spread`.
const RELATIVE = 16 * 2 ** -24;

let backend: Backend;
beforeAll(async () => {
  backend = await wasmBackend();
});

function random(rng: Rng, n: number): Float32Array {
  return Float32Array.from({ length: n }, () => rng.normal());
}

function affine(
  rng: Rng,
  rows: number,
  cols: number,
  bits: number,
  groupSize: number,
  opts: { zeros?: boolean; order?: boolean; blockRows?: number } = {},
): Affine {
  const { zeros = false, order = false, blockRows = 1 } = opts;
  const groups = Math.ceil(cols / groupSize);
  const count = Math.ceil(rows / blockRows) * groups;
  const groupIndex = Int32Array.from({ length: cols }, (_, c) => Math.floor(c / groupSize));
  return {
    kind: 'affine',
    shape: [rows, cols],
    bits,
    groupSize,
    codes: Uint8Array.from({ length: rows * Math.ceil((cols * bits) / 8) }, () => rng.below(256)),
    scales: { block: [blockRows, groupSize], format: 'fp32', data: random(rng, count).map((x) => x / 2 ** bits) },
    ...(zeros && {
      zeroPoints: packStream(
        Uint8Array.from({ length: count }, () => rng.below(2 ** bits)),
        bits,
      ),
    }),
    ...(order && { groupIndex: Int32Array.from(rng.shuffle(Array.from(groupIndex))) }),
  };
}

const halves = (rng: Rng, n: number, exponents: number, shift: number) =>
  Uint16Array.from({ length: n }, () => (rng.below(2) << 15) | (rng.below(exponents) << shift) | rng.below(2 ** shift));

/** Widths that are no multiples of 4, 8, 16, 32; output counts that are none of 4 or 8. */
const SIZES: [rows: number, cols: number][] = [
  [1, 1],
  [5, 7],
  [9, 33],
  [13, 100],
  [4, 257],
  [23, 300],
  [7, 513],
];

const LAYOUTS: Record<string, (rng: Rng, rows: number, cols: number) => CompressedTensor> = {
  fp32: (rng, r, c) => ({ kind: 'dense', shape: [r, c], format: 'fp32', data: random(rng, r * c) }),
  'fp16, subnormals too': (rng, r, c) => ({ kind: 'dense', shape: [r, c], format: 'fp16', data: halves(rng, r * c, 31, 10) }),
  bf16: (rng, r, c) => ({
    kind: 'dense',
    shape: [r, c],
    format: 'bf16',
    data: Uint16Array.from(halves(rng, r * c, 8, 7), (x) => x + (120 << 7)),
  }),
};
for (const bits of [1, 2, 3, 4, 5, 6, 7, 8]) {
  for (const zeros of [false, true]) {
    const z = zeros ? 'zero points' : 'symmetric';
    LAYOUTS[`${bits}-bit per row, ${z}`] = (rng, r, c) => affine(rng, r, c, bits, c, { zeros });
    LAYOUTS[`${bits}-bit g32, ${z}`] = (rng, r, c) => affine(rng, r, c, bits, Math.min(c, 32), { zeros });
  }
}
for (const bits of [4, 8]) {
  for (const g of [1, 5, 16, 24, 128])
    LAYOUTS[`${bits}-bit g${g}`] = (rng, r, c) => affine(rng, r, c, bits, Math.min(c, g), { zeros: true });
  LAYOUTS[`${bits}-bit act-order`] = (rng, r, c) => affine(rng, r, c, bits, Math.min(c, 32), { zeros: true, order: true });
  LAYOUTS[`${bits}-bit blocks of rows`] = (rng, r, c) =>
    affine(rng, r, c, bits, Math.min(c, 32), { zeros: true, blockRows: Math.min(r, 4) });
}

/** Sum of magnitudes that the kernels really add: with codes that are all positive, up to the largest code times the scale. */
function spread(t: CompressedTensor, row: number, col: number, value: number): number {
  if (t.kind !== 'affine') return Math.abs(value);
  const groups = Math.ceil(t.shape[1] / t.groupSize);
  const g = t.groupIndex ? t.groupIndex[col]! : Math.floor(col / t.groupSize);
  return Math.abs(t.scales.data[Math.floor(row / t.scales.block[0]) * groups + g]!) * 2 ** t.bits * 2;
}

describe('linear and embedding', () => {
  for (const [label, make] of Object.entries(LAYOUTS)) {
    it(label, async () => {
      const rng = createRng(label.length * 31 + label.charCodeAt(0));
      for (const [rows, cols] of SIZES) {
        const weight = make(rng, rows, cols);
        const w = decode(weight).data;
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
                size += Math.abs(a) * spread(weight, r, c, w[r * cols + c]!);
              }
              if (!(Math.abs(got[t * rows + r]! - want) <= RELATIVE * size))
                expect.fail(
                  `${rows} x ${cols}, ${tokens} tokens, [${t}, ${r}]: got ${got[t * rows + r]}, want ${want} ± ${RELATIVE * size}`,
                );
            }
          }
          s.dispose();
        }
        const s = backend.scope();
        const ids = [rows - 1, 0, rows >> 1];
        const rowsGot = (await s.read(s.embedding(loaded, ids))).data;
        for (const [i, id] of ids.entries())
          expect(rowsGot.subarray(i * cols, (i + 1) * cols)).toEqual(w.subarray(id * cols, (id + 1) * cols));
        s.dispose();
        loaded.dispose();
      }
    });
  }

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

  it('refuses a quantized input, and weights whose parts do not fit', () => {
    const weight = affine(createRng(1), 4, 8, 4, 8);
    const code = (work: () => unknown) => {
      try {
        work();
      } catch (e) {
        return isLmqError(e) && e.code;
      }
    };
    expect(code(() => backend.load({ weight, input: { kind: 'int8', per: 'token', symmetric: true } }))).toBe('backend/unsupported');
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
