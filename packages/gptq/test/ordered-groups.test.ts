import { decode, unpackRows, validate } from '@lmq/formats';
import { gptq } from '@lmq/gptq';
import { proxyLoss } from '@lmq/quant-core';
import { matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { actOrder, permuteColumns } from '../src/_order.js';
import { correlated } from './_inputs.js';

describe("staticGroups: 'ordered'", () => {
  const opts = { bits: 3, groupSize: 16 };

  it('is gptq with static groups of a matrix whose columns were ordered before', async () => {
    const { w, h } = correlated(8, 64, 1);
    const order = actOrder(Array.from({ length: 64 }, (_, i) => h.data[i * 65]!));
    const turned = matrix(permuteColumns(w.data, 8, order), 8, 64);
    const turnedH = matrix(new Float32Array(64 * 64), 64, 64);
    for (let i = 0; i < 64; i++) for (let j = 0; j < 64; j++) turnedH.data[i * 64 + j] = h.data[order[i]! * 64 + order[j]!]!;
    const want = await gptq(turned, turnedH, { ...opts, staticGroups: true });
    const { weight, report } = await gptq(w, h, { ...opts, actOrder: true, staticGroups: 'ordered' });
    validate(weight);
    expect(weight.scales).toEqual(want.weight.scales);
    expect(weight.zeroPoints).toEqual(want.weight.zeroPoints);
    expect(Array.from(order, (c) => weight.groupIndex![c]!)).toEqual(Array.from({ length: 64 }, (_, i) => i >> 4));
    expect(permuteColumns(Float32Array.from(unpackRows(weight.codes, 3, 8, 64)), 8, order)).toEqual(
      Float32Array.from(unpackRows(want.weight.codes, 3, 8, 64)),
    );
    expect(report.loss).toBe(want.report.loss);
    expect(Math.abs(proxyLoss(w, decode(weight), h).relative / report.proxyLoss! - 1)).toBeLessThan(1e-3);
  });

  it('is neither of its neighbours', async () => {
    const { w, h } = correlated(8, 64, 2);
    const codes = async (staticGroups: boolean | 'ordered') => {
      const { weight } = await gptq(w, h, { ...opts, actOrder: true, staticGroups });
      return [...unpackRows(weight.codes, 3, 8, 64)];
    };
    const ordered = await codes('ordered');
    expect(ordered).not.toEqual(await codes(true));
    expect(ordered).not.toEqual(await codes(false));
  });

  it('needs act-order', async () => {
    const { w, h } = correlated(4, 16, 3);
    for (const bad of [{ staticGroups: 'ordered' as const }, { groupAware: true, staticGroups: 'ordered' as const }])
      await expect(gptq(w, h, { bits: 4, groupSize: 8, ...bad })).rejects.toMatchObject({ code: 'argument/option' });
    await expect(gptq(w, h, { bits: 4, actOrder: true, staticGroups: 'group' as 'ordered' })).rejects.toMatchObject({
      code: 'argument/option',
    });
  });
});
