import { decode, dense } from '@lmq/formats';
import { proxyLoss, rtn, rtnLinear } from '@lmq/quant-core';
import { createRng, type Linear, matrix } from '@lmq/tensor';
import { expect, it } from 'vitest';

const rng = createRng(1);
const w = matrix(
  Float32Array.from({ length: 8 * 16 }, () => rng.normal()),
  8,
  16,
);

it('replaces the weight of a linear layer and keeps the rest', () => {
  const linear: Linear = { weight: dense('fp32', w.data, 8, 16), bias: new Float32Array(8).fill(2) };
  const { linear: after, report } = rtnLinear(linear, {}, { bits: 4, groupSize: 8 });
  expect(after.weight).toEqual(rtn(w, { bits: 4, groupSize: 8 }).weight);
  expect(after.bias).toBe(linear.bias);
  expect(report.proxyLoss).toBeUndefined();
});

it('reports the proxy loss when it has a Hessian', () => {
  const h = matrix(new Float32Array(256), 16, 16);
  for (let i = 0; i < 16; i++) h.data[i * 17] = 1 + i;
  const linear: Linear = { weight: dense('fp32', w.data, 8, 16) };
  const { linear: after, report } = rtnLinear(linear, { hessian: h }, { bits: 3 });
  expect(report.proxyLoss).toBe(proxyLoss(w, decode(after.weight), h).relative);
});
