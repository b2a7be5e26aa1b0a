// LLM.int8() beside bitsandbytes' own operators (golden/llm_int8.py), and the two ends of its threshold.
import { readFileSync } from 'node:fs';
import { decode } from '@lmq/formats';
import { jsBackend } from '@lmq/kernels-js';
import { type Affine, type InputQuant, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

interface Case {
  tokens: number;
  threshold: number;
  x: number[];
  columns: number[];
  y: number[];
  exact: number[];
}
const golden = JSON.parse(readFileSync(new URL('golden/llm-int8.json', import.meta.url), 'utf8'));
const [out, width] = golden.shape as [number, number];
const bias = Float32Array.from(golden.bias as number[]);
const weight: Affine = {
  kind: 'affine',
  shape: [out, width],
  bits: 8,
  groupSize: width,
  codes: Uint8Array.from(golden.codes as number[], (q) => q + 128),
  scales: { block: [1, width], format: 'fp32', data: Float32Array.from(golden.absmax as number[], (a) => a / 127) },
};
const cases = golden.cases as Case[];
const backend = jsBackend();

async function product({ x, tokens }: Case, input?: InputQuant) {
  const s = backend.scope();
  const loaded = backend.load({ weight, bias, ...(input && { input }) });
  const y = (await s.read(s.linear(s.upload(matrix(Float32Array.from(x), tokens, width)), loaded))).data;
  s.dispose();
  return { y, outliers: loaded.outliers };
}

describe('LLM.int8()', () => {
  it.each(cases)("threshold $threshold, $tokens tokens: bitsandbytes' columns and sums", async (c) => {
    const { y, outliers } = await product(c, { kind: 'llm-int8', threshold: c.threshold });
    expect(outliers).toEqual({ columns: c.columns.length, of: width });
    const w = decode(weight).data;
    for (let i = 0; i < y.length; i++) {
      const [t, r] = [Math.floor(i / out), i % out];
      let size = Math.abs(bias[r]!);
      for (let k = 0; k < width; k++) size += Math.abs(c.x[t * width + k]! * w[r * width + k]!);
      expect(Math.abs(y[i]! - c.exact[i]!)).toBeLessThan(size * 2 ** -22); // scales are float32 on either side
      expect(Math.abs(y[i]! - c.y[i]!)).toBeLessThan(size * 2.5e-5); // its constant for 1 / 127² is 1.8e-5 too large
    }
  });

  it('a threshold of 0 is vector-wise int8; one below all inputs is the product with the dequantized weight', async () => {
    for (const c of cases) {
      const none = await product(c, { kind: 'llm-int8', threshold: 0 });
      expect(none.y).toEqual((await product(c, { kind: 'int8', per: 'token', symmetric: true })).y);
      const all = await product(c, { kind: 'llm-int8', threshold: 1e-30 });
      const float = await product(c);
      all.y.forEach((v, i) => {
        expect(Math.abs(v - float.y[i]!)).toBeLessThanOrEqual(2 ** -22 * Math.max(1, Math.abs(v)));
      });
      expect(all.outliers).toEqual({ columns: width, of: width });
    }
  });
});
