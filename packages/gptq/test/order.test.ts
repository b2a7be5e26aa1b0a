import { unpackRows } from '@lmq/formats';
import { gptq } from '@lmq/gptq';
import { matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { groupAwareOrder } from '../src/_order.js';
import { correlated } from './_inputs.js';

describe('groupAware', () => {
  it('orders groups by their largest entry and columns inside them, and settles ties by place', () => {
    expect([...groupAwareOrder([1, 5, 2, 9, 9, 3, 5, 0, 7], 3)]).toEqual([3, 4, 5, 8, 6, 7, 1, 2, 0]);
    expect([...groupAwareOrder([4, 4, 1, 4, 4, 2], 3)]).toEqual([0, 1, 2, 3, 4, 5]);
    expect([...groupAwareOrder([4, 1, 1, 4, 4, 2], 2)]).toEqual([0, 1, 3, 2, 4, 5]);
  });

  it('helps, without a group index', async () => {
    let [plain, aware, free] = [0, 0, 0];
    for (let seed = 20; seed < 24; seed++) {
      const { w, h } = correlated(64, 256, seed);
      const opts = { bits: 2, groupSize: 64 };
      plain += (await gptq(w, h, opts)).report.proxyLoss!;
      const result = await gptq(w, h, { ...opts, groupAware: true });
      aware += result.report.proxyLoss!;
      expect(result.weight.groupIndex).toBeUndefined();
      free += (await gptq(w, h, { ...opts, actOrder: true })).report.proxyLoss!;
    }
    expect(aware).toBeLessThan(plain);
    expect(free).toBeLessThan(plain);
  });

  it('changes nothing when columns already are in that order', async () => {
    const { w, h } = correlated(8, 64, 25);
    const scaled = matrix(h.data.slice(), 64, 64);
    const gain = Array.from({ length: 64 }, (_, i) => 1 / Math.sqrt(h.data[i * 65]!) / (i + 1));
    for (let i = 0; i < 64; i++) for (let j = 0; j < 64; j++) scaled.data[i * 64 + j]! *= gain[i]! * gain[j]!;
    const opts = { bits: 3, groupSize: 16 };
    expect((await gptq(w, scaled, { ...opts, groupAware: true })).weight).toEqual((await gptq(w, scaled, opts)).weight);
  });

  it('is act-order where a row is one group', async () => {
    const { w, h } = correlated(8, 64, 26);
    const codes = async (o: object) => {
      const { weight } = await gptq(w, h, { bits: 3, ...o });
      return unpackRows(weight.codes, 3, 8, 64);
    };
    expect(await codes({ groupAware: true })).toEqual(await codes({ actOrder: true }));
    expect(await codes({ groupAware: true })).not.toEqual(await codes({}));
  });

  it('excludes act-order', async () => {
    const { w, h } = correlated(4, 16, 27);
    await expect(gptq(w, h, { bits: 4, groupSize: 8, actOrder: true, groupAware: true })).rejects.toMatchObject({
      code: 'argument/option',
    });
  });
});
