// clip 'imatrix' takes its importances from the Hessian's diagonal, in whatever order the sweep goes.

import { encodeFloats } from '@lmq/formats';
import { type GptqOpts, gptq } from '@lmq/gptq';
import { findParams, rtn } from '@lmq/quant-core';
import { type Affine, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { correlated } from './_inputs.js';

const { w, h } = correlated(8, 96, 5);
for (let i = 0; i < 96; i++) for (const at of [i * 96 + 7, 7 * 96 + i]) h.data[at] = 0; // an input that is never used
const importance = Float64Array.from({ length: 96 }, (_, i) => h.get(i, i));
const grid = { bits: 3, groupSize: 24, clip: 'imatrix' } as const;
const scales = (o: Omit<GptqOpts, 'bits'>) => gptq(w, h, { ...grid, ...o }).then(({ weight }) => (weight as Affine).scales.data);
const dead = matrix(w.data.slice(), 8, 96);
for (let r = 0; r < 8; r++) dead.set(r, 7, 0);

describe("clip 'imatrix' in GPTQ", () => {
  it('per row: the scales of the original weights', async () => {
    const { groupSize, ...whole } = grid;
    const { weight } = await gptq(w, h, whole);
    expect(weight.scales.data).toEqual(encodeFloats('fp16', findParams(w, { ...whole, importance }).scales));
  });

  it.each([{}, { actOrder: true }, { groupAware: true }])('static groups, %j', async (order) => {
    const want = encodeFloats('fp16', findParams(dead, { ...grid, importance }).scales);
    expect(await scales({ staticGroups: true, ...order })).toEqual(want);
    expect(encodeFloats('fp16', findParams(dead, { ...grid, importance: new Float32Array(96).fill(1) }).scales)).not.toEqual(want);
  });

  it('groups of the ordered columns', async () => {
    // An unused input counts as 1 for the order, as in the reference.
    const diagonal = importance.map((v) => v || 1);
    const order = Array.from(diagonal.keys()).sort((a, b) => diagonal[b]! - diagonal[a]! || a - b);
    const turned = matrix(new Float32Array(8 * 96), 8, 96);
    for (let r = 0; r < 8; r++) for (const [i, c] of order.entries()) turned.set(r, i, dead.get(r, c));
    const own = order.map((c) => importance[c]!);
    const want = encodeFloats('fp16', findParams(turned, { ...grid, importance: own }).scales);
    expect(await scales({ staticGroups: 'ordered', actOrder: true })).toEqual(want);
    const fitted = await scales({ actOrder: true }); // the first group is fitted before any error
    for (let r = 0; r < 8; r++) expect(fitted[r * 4]).toBe(want[r * 4]);
  });

  it('where H cannot be factored', async () => {
    const flat = matrix(new Float32Array(96 * 96), 96, 96);
    for (let i = 0; i < 96; i++) for (let j = 0; j < 96; j++) flat.set(i, j, i === j ? 1 + (i % 5) : 1e6);
    const { weight, report } = await gptq(w, flat, grid);
    expect(report.fallback).toBe('rtn');
    expect(weight).toEqual(rtn(w, { ...grid, hessian: flat }).weight);
  });
});
