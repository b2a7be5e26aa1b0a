// GPTAQ in recipes: each linear must come out as the library's method makes it from sums that whole models collect, the original one and
// the one whose earlier linears are already quantized.
import { gptqLinear } from '@lmq/gptq';
import { type Architecture, loadModel, type Model } from '@lmq/model';
import { createCrossTerm, createHessian } from '@lmq/quant-core';
import type { CompressedTensor, Handle, Scope } from '@lmq/tensor';
import { beforeAll, describe, expect, it } from 'vitest';
import { type OpenModel, openModel } from '../src/_node/open-model.js';
import { overlay } from '../src/overlay.js';
import { quantizeBlocks } from '../src/quantize-blocks.js';
import { parseRecipe } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

type Nano = Awaited<ReturnType<typeof openNano>>;
const few = windows.slice(0, 3).map((w) => w.slice(0, 192));
let nano: Nano;
beforeAll(async () => {
  nano = await openNano();
});

const codesOf = (t: CompressedTensor | undefined) => {
  if (t?.kind !== 'affine') throw new Error(`${t?.kind}`);
  return { codes: Buffer.from(t.codes), scales: t.scales, zeroPoints: t.zeroPoints };
};

/** Blocks that stay as they are. */
const skip = (...layers: number[]) => layers.map((l) => ({ match: `*.layers.${l}.*`, skip: true }));

async function quantize(opened: OpenModel, stage: object, overrides: object[] = []) {
  const recipe = parseRecipe({ stages: [{ method: 'gptq', bits: 3, groupSize: 64, ...stage }], overrides });
  const weights = new Map<string, CompressedTensor>();
  const reports = new Map<string, { asymmetricLoss?: number; error: number }>();
  for await (const b of quantizeBlocks({ ...opened, backend: nano.backend, recipe, calibration: few })) {
    for (const [name, t] of b.weights) weights.set(name, t);
    for (const l of b.layers) reports.set(l.name, l);
  }
  return { weights, reports, stage: recipe.stages[0]! };
}

/** What one site becomes when the linears that `before` selects are quantized already. */
async function expected(
  opened: OpenModel,
  result: Awaited<ReturnType<typeof quantize>>,
  siteName: string,
  before: (site: Architecture['sites'][number]) => boolean,
  alpha: number,
  floatInput?: (s: Scope, float: Model, ids: ArrayLike<number>, routes: Int32Array) => Promise<Handle>,
) {
  const { architecture, checkpoint } = opened;
  const { backend } = nano;
  const site = architecture.sites.find((s) => s.name === siteName)!;
  const done = architecture.sites.filter((s) => s.role !== 'router' && before(s)).map((s) => s.tensor);
  const prefix = new Map(done.map((name) => [name, result.weights.get(name)!]));
  const float = await loadModel({ ...opened, backend });
  const quantized = await loadModel({ ...opened, checkpoint: overlay(checkpoint, prefix), backend });
  const weight = await checkpoint.read(site.tensor);
  const hessian = createHessian(backend, weight.shape[1]);
  const crossTerm = createCrossTerm(backend, weight.shape[1]);
  try {
    for (const ids of few) {
      const s = backend.scope();
      let given: Handle | undefined;
      let routes: Int32Array = new Int32Array();
      await quantized.hidden(s, ids, {
        tap: (input, x) => {
          if (input === site.input) given = s.copy(x);
        },
        onRoutes: (layer, top) => {
          if (layer === site.layer) routes = top.slice();
        },
      });
      if (given) {
        let wanted: Handle | undefined;
        if (floatInput) wanted = await floatInput(s, float, ids, routes);
        else
          await float.hidden(s, ids, {
            tap: (input, x) => {
              if (input === site.input) wanted = s.copy(x);
            },
          });
        hessian.add(given);
        crossTerm.add(wanted!, given);
      }
      await s.flush();
      s.dispose();
    }
    const { bits, groupSize } = result.stage;
    const gptaq = { crossTerm: await crossTerm.read(), alpha };
    const opts = { bits, groupSize, preset: 'gptq' as const, scaleFormat: 'fp16' as const, gptaq, backend };
    return await gptqLinear({ weight }, { hessian: await hessian.read() }, opts);
  } finally {
    for (const x of [hessian, crossTerm, float, quantized]) x.dispose();
  }
}

describe('GPTAQ of lmq-nano', () => {
  const name = (layer: number, rest: string) => `model.layers.${layer}.${rest}`;

  it('later blocks: what the original model would have read is the target', async () => {
    const result = await quantize(nano, { gptaq: 0.5 }, skip(3));
    for (const rest of ['self_attn.q_proj', 'self_attn.o_proj', 'mlp.up_proj', 'mlp.down_proj']) {
      const { linear, report } = await expected(nano, result, name(2, rest), (s) => s.layer < 2, 0.5);
      expect(codesOf(result.weights.get(`${name(2, rest)}.weight`))).toEqual(codesOf(linear.weight));
      expect(result.reports.get(name(2, rest))!.asymmetricLoss).toBe(report.asymmetricLoss);
      expect(Number.isFinite(report.asymmetricLoss)).toBe(true);
    }
  });

  it('true-sequential: later linears of a block make up for the earlier ones', async () => {
    const result = await quantize(nano, { gptaq: true, trueSequential: true }, skip(2, 3));
    const { linear } = await expected(nano, result, name(0, 'self_attn.o_proj'), (s) => s.layer === 0 && 'qkv'.includes(s.role), 0.25);
    expect(codesOf(result.weights.get(name(0, 'self_attn.o_proj.weight')))).toEqual(codesOf(linear.weight));
    const down = await expected(nano, result, name(1, 'mlp.down_proj'), (s) => s.layer === 0 || (s.layer === 1 && s.role !== 'down'), 0.25);
    expect(codesOf(result.weights.get(name(1, 'mlp.down_proj.weight')))).toEqual(codesOf(down.linear.weight));
  });

  it('the first block, and a share of 0, are plain GPTQ', async () => {
    const plain = await quantize(nano, {}, skip(1, 3));
    const none = await quantize(nano, { gptaq: 0 }, skip(1, 3));
    const all = await quantize(nano, { gptaq: 1 }, skip(1, 3));
    for (const [tensor, t] of plain.weights) {
      expect(codesOf(none.weights.get(tensor))).toEqual(codesOf(t));
      if (tensor.includes('layers.0.')) expect(codesOf(all.weights.get(tensor))).toEqual(codesOf(t));
    }
    const last = name(2, 'mlp.up_proj.weight');
    expect(codesOf(all.weights.get(last))).not.toEqual(codesOf(plain.weights.get(last)));
    expect(plain.reports.get(name(2, 'mlp.up_proj'))!.asymmetricLoss).toBeUndefined();
  });

  it('for some linears only, over blocks of which nothing is quantized', async () => {
    const result = await quantize(nano, {}, [...skip(1), { match: '*.layers.3.*.down_proj', gptaq: 1 }]);
    const { linear } = await expected(nano, result, name(3, 'mlp.down_proj'), (s) => s.layer === 0 || s.layer === 2, 1);
    expect(codesOf(result.weights.get(name(3, 'mlp.down_proj.weight')))).toEqual(codesOf(linear.weight));
    expect(result.reports.get(name(3, 'mlp.up_proj'))!.asymmetricLoss).toBeUndefined();
  });
});

describe('GPTAQ of a mixture of experts', () => {
  it('takes the quantized model’s routes, and each expert’s float weights on the float model’s states', async () => {
    const moe = await openModel('lmq-nano-moe');
    const { topK } = moe.architecture.moe!;
    const { activation } = moe.architecture.mlp;
    const result = await quantize(moe, { gptaq: 1 }, skip(2, 3));
    const layer = 1;
    const expert = 2;
    const role = (r: string) => moe.architecture.sites.find((s) => s.layer === layer && s.expert === expert && s.role === r)!;
    /** What the router of the original model reads, for the tokens that the quantized one sends to the expert. */
    const states = async (s: Scope, float: Model, ids: ArrayLike<number>, routes: Int32Array) => {
      let read: Handle | undefined;
      await float.hidden(s, ids, {
        tap: (input, x) => {
          if (input === `layers.${layer}.moe`) read = s.copy(x);
        },
      });
      return s.select(
        read!,
        Array.from(routes.keys()).flatMap((i) => (routes[i] === expert ? Math.floor(i / topK) : [])),
      );
    };
    const up = await expected(moe, result, role('up').name, (s) => s.layer < layer, 1, states);
    expect(codesOf(result.weights.get(role('up').tensor))).toEqual(codesOf(up.linear.weight));
    const down = await expected(
      moe,
      result,
      role('down').name,
      (s) => s.layer < layer,
      1,
      async (s, float, ids, routes) => {
        const x = await states(s, float, ids, routes);
        const block = float.blocks[layer]!;
        return s.glu(s.linear(x, block.at('gate', expert).loaded), s.linear(x, block.at('up', expert).loaded), activation);
      },
    );
    expect(codesOf(result.weights.get(role('down').tensor))).toEqual(codesOf(down.linear.weight));
    await moe.close();
  });
});
