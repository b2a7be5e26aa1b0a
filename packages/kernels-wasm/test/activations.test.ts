import { decode, packRows, packStream } from '@lmq/formats';
import { jsBackend } from '@lmq/kernels-js';
import { type Activations, type Affine, type Backend, type CompressedTensor, createRng, type InputQuant, matrix } from '@lmq/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { wasmBackend } from '../src/index.js';
import { affine, BLOCK_NAMES, BLOCKS, blockSizes, LAYOUTS, random, SIZES, spread } from './layouts.js';

// Inputs rounded to integers, against kernels-js, which defines the rounding and multiplies in double.
const RELATIVE = 16 * 2 ** -24; // as in weights.test.ts

let wasm: Backend;
const js = jsBackend();
beforeAll(async () => {
  wasm = await wasmBackend();
});

async function product(
  backend: Backend,
  weight: CompressedTensor,
  how: Activations | InputQuant,
  x: Float32Array,
  tokens: number,
): Promise<Float32Array> {
  const s = backend.scope();
  const loaded = typeof how === 'string' ? backend.load({ weight }, { activations: how }) : backend.load({ weight, input: how });
  const width = x.length / tokens;
  const out = (await s.read(s.linear(s.view(s.upload(matrix(x, tokens, width)), [0, tokens], [1, weight.shape[1] + 1]), loaded))).data;
  loaded.dispose();
  s.dispose();
  return out;
}

describe.each(['int16', 'int8'] as const)('%s activations give the results of kernels-js', (activations) => {
  for (const [label, make] of Object.entries(LAYOUTS)) {
    it(label, async () => {
      const rng = createRng(label.length * 31 + label.charCodeAt(0));
      for (const [rows, cols] of SIZES) {
        const weight = make(rng, rows, cols);
        if (weight.kind !== 'affine') continue; // not rounded: conformance.test.ts
        for (const tokens of [1, 6, 14]) {
          const x = random(rng, tokens * (cols + 3));
          const got = await product(wasm, weight, activations, x, tokens);
          const want = await product(js, weight, activations, x, tokens);
          for (let t = 0; t < tokens; t++) {
            for (let r = 0; r < rows; r++) {
              let size = 0;
              for (let c = 0; c < cols; c++) size += Math.abs(x[t * (cols + 3) + 1 + c]!) * spread(weight, r, c, 0);
              const at = t * rows + r;
              if (!(Math.abs(got[at]! - want[at]!) <= RELATIVE * size))
                expect.fail(`${rows} x ${cols}, ${tokens} tokens, [${t}, ${r}]: got ${got[at]}, want ${want[at]} ± ${RELATIVE * size}`);
            }
          }
        }
      }
    });
  }

  for (const type of BLOCK_NAMES) {
    it(type, async () => {
      for (const [label, make] of Object.entries(BLOCKS)) {
        const rng = createRng(label.length);
        for (const [rows, cols] of blockSizes(type)) {
          const weight = make(type, rng, rows, cols);
          const w = decode(weight).data;
          for (const tokens of [1, 4, 7, 64]) {
            const x = random(rng, tokens * (cols + 3));
            const got = await product(wasm, weight, activations, x, tokens);
            const want = await product(js, weight, activations, x, tokens);
            for (let t = 0; t < tokens; t++) {
              for (let r = 0; r < rows; r++) {
                let size = 0;
                for (let c = 0; c < cols; c++) size += Math.abs(x[t * (cols + 3) + 1 + c]!) * spread(weight, r, c, w[r * cols + c]!);
                const at = t * rows + r;
                if (!(Math.abs(got[at]! - want[at]!) <= RELATIVE * size))
                  expect.fail(
                    `${label}, ${rows} x ${cols}, ${tokens} tokens, [${t}, ${r}]: got ${got[at]}, want ${want[at]} ± ${RELATIVE * size}`,
                  );
              }
            }
          }
        }
      }
    });
  }

  it('several blocks of rows and columns, groups that do and do not divide them', async () => {
    const rng = createRng(5);
    for (const groupSize of [32, 160, 288, 1120]) {
      for (const bits of [4, 8]) {
        const weight = affine(rng, 133, 2500, bits, groupSize, { zeros: true });
        for (const tokens of [1, 13]) {
          const x = random(rng, tokens * 2503);
          const got = await product(wasm, weight, activations, x, tokens);
          const want = await product(js, weight, activations, x, tokens);
          // E |x| < 1, and the spread of a term at most 2 |scale| 2^bits, with scales around 2^-bits: 2500 terms, twice over for outliers.
          for (let i = 0; i < want.length; i++) expect(Math.abs(got[i]! - want[i]!)).toBeLessThan(RELATIVE * 2 * 2500 * 2);
        }
      }
    }
  });

  it('the largest codes everywhere: integer sums do not overflow', async () => {
    for (const bits of [4, 8]) {
      for (const [code, zero, sign] of [
        [2 ** bits - 1, 0, 1],
        [0, 2 ** bits - 1, -1],
      ] as const) {
        const [rows, cols] = [9, 1024];
        const weight: Affine = {
          kind: 'affine',
          shape: [rows, cols],
          bits,
          groupSize: cols,
          codes: packRows(new Uint8Array(rows * cols).fill(code), bits, rows, cols),
          scales: { block: [1, cols], format: 'fp32', data: new Float32Array(rows).fill(1) },
          zeroPoints: packStream(new Uint8Array(rows).fill(zero), bits),
        };
        for (const tokens of [1, 13]) {
          const got = await product(wasm, weight, activations, new Float32Array(tokens * (cols + 1)).fill(-3), tokens);
          const want = -3 * sign * (2 ** bits - 1) * cols;
          // the scale 3 / largest is rounded once, sums of chunks add their own
          for (const y of got) expect(Math.abs(y / want - 1)).toBeLessThan(RELATIVE * 2);
        }
      }
    }
  });

  it('tiny inputs: subnormal scales round and clamp alike', async () => {
    const rng = createRng(6);
    const weight = affine(rng, 5, 64, 4, 32, { zeros: true });
    for (const size of [1e-33, 1e-36, 1e-40, 1e-44]) {
      for (const tokens of [1, 13]) {
        const x = random(rng, tokens * 65).map((v) => v * size);
        const got = await product(wasm, weight, activations, x, tokens);
        const want = await product(js, weight, activations, x, tokens);
        // products with subnormal scales lose bits: a step of 2^-149 for each of 64 terms, times codes up to 32767
        for (let i = 0; i < want.length; i++)
          expect(Math.abs(got[i]! - want[i]!)).toBeLessThan(size * 64 * 2 ** -10 + 2 ** -149 * 64 * 32767 * 16);
      }
    }
  });
});

describe('quantized inputs give the results of kernels-js', () => {
  const inputs: InputQuant[] = [
    { kind: 'int8', per: 'token', symmetric: true },
    { kind: 'int8', per: 'tensor', symmetric: false },
    { kind: 'int8', per: 'tensor', symmetric: false, static: { scale: Math.fround(0.02), zeroPoint: 9 } },
    { kind: 'llm-int8', threshold: 2 },
  ];
  for (const [label, make] of Object.entries(LAYOUTS)) {
    if (!/^[1-8]-bit (per row|g32|g128|blocks of rows)/.test(label) || label.endsWith('sparse rows')) continue;
    it(label, async () => {
      const rng = createRng(label.length * 31 + label.charCodeAt(0));
      for (const [rows, cols] of SIZES) {
        const weight = make(rng, rows, cols) as Affine;
        for (const input of inputs) {
          for (const tokens of [1, 6, 14]) {
            const x = random(rng, tokens * (cols + 3));
            const got = await product(wasm, weight, input, x, tokens);
            const want = await product(js, weight, input, x, tokens);
            for (let t = 0; t < tokens; t++) {
              for (let r = 0; r < rows; r++) {
                let size = 0;
                for (let c = 0; c < cols; c++) size += (Math.abs(x[t * (cols + 3) + 1 + c]!) + 0.02) * spread(weight, r, c, 0);
                const at = t * rows + r;
                if (!(Math.abs(got[at]! - want[at]!) <= RELATIVE * size))
                  expect.fail(
                    `${JSON.stringify(input)}, ${rows} x ${cols}, ${tokens} tokens, [${t}, ${r}]: got ${got[at]}, want ${want[at]} ± ${RELATIVE * size}`,
                  );
              }
            }
          }
        }
      }
    });
  }
});
