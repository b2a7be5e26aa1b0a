import { dense } from '@lmq/formats';
import { gptq, gptqLinear } from '@lmq/gptq';
import type { Linear } from '@lmq/tensor';
import { expect, it } from 'vitest';
import { correlated } from './_inputs.js';

it('replaces the weight of a linear layer and keeps the rest', async () => {
  const { w, h } = correlated(16, 64, 1);
  const linear: Linear = {
    weight: dense('fp32', w.data, 16, 64),
    bias: Float32Array.from({ length: 16 }, (_, i) => i),
    input: { kind: 'llm-int8', threshold: 6 },
  };
  const { linear: after, report } = await gptqLinear(linear, { hessian: h }, { bits: 4, groupSize: 16 });
  expect(after.weight).toEqual((await gptq(w, h, { bits: 4, groupSize: 16 })).weight);
  expect(after.bias).toBe(linear.bias);
  expect(after.input).toBe(linear.input);
  expect(report.method).toBe('gptq');
  expect(linear.weight.kind).toBe('dense');
});
