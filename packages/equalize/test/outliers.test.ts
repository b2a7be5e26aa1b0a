// The outliers of OPT on one linear, multiplied in integers by the kernels that run models. What they do to a whole model: docs/outliers.md.
import { jsBackend } from '@lmq/kernels-js';
import { wasmBackend } from '@lmq/kernels-wasm';
import { describe, expect, it } from 'vitest';
import { layerErrors, spikiest } from './_opt-layer.mjs';
import { readOptMaxima } from './_opt-maxima.mjs';

const wasm = await wasmBackend();
const found = readOptMaxima('opt-125m') !== undefined;
if (!found) console.warn('skipped: ../shared/stats is absent');

describe.skipIf(!found)('a linear whose inputs have the maxima of OPT', () => {
  for (const model of ['opt-125m', 'opt-1.3b'] as const) {
    for (const backend of [jsBackend(), wasm]) {
      it(`${model}, ${backend.variant}: 8-bit inputs lose what SmoothQuant and LLM.int8() get back`, async () => {
        const maxima = readOptMaxima(model)!;
        const absMax = maxima.get(spikiest(maxima))!;
        const errors = await layerErrors(absMax, { out: 32, tokens: 64, backend });
        const even = await layerErrors(new Float32Array(absMax.length).fill(1), { out: 32, tokens: 64, backend });
        const per = (method: string, by: string) => errors[`${method}, per ${by}`]!;
        for (const by of ['token', 'tensor']) {
          expect(per('naive W8A8', by)).toBeGreaterThan(10 * even[`naive W8A8, per ${by}`]!); // without outliers 40 dB and 38 dB
          expect(per('SmoothQuant 0.5', by)).toBeLessThan(per('naive W8A8', by) / 10);
        }
        expect(errors['LLM.int8(), threshold 6']).toBeLessThan(per('naive W8A8', 'token') / 8);
        expect(errors['W8, float input']).toBeLessThan(2 * even['W8, float input']!); // it is the inputs
      });
    }
  }

  it('AWQ loses less than plain rounding, in 4 and in 3 bits', async () => {
    const maxima = readOptMaxima('opt-125m')!;
    const errors = await layerErrors(maxima.get(spikiest(maxima))!, { out: 32, tokens: 64, backend: wasm, awq: true });
    for (const bits of [4, 3]) expect(errors[`AWQ, ${bits} bits g128`]).toBeLessThan(errors[`RTN, ${bits} bits g128`]! / 1.5);
  });
});
