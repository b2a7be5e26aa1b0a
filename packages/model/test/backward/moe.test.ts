// A block of experts against slopes in double: what flows through the router into what comes before it, and into its own weight.
import { decode } from '@lmq/formats';
import { createRng, matrix } from '@lmq/tensor';
import { beforeAll, expect, it } from 'vitest';
import { type Architecture, blockBackward, loadBlock, loadRope, parseHfConfig, type Site } from '../../src/index.js';
import { familyCheckpoint, readCase } from '../_families.js';
import { BACKENDS } from '../_support.js';
import * as double from './_double.js';

const TOKENS = 9; // more than the window holds
const golden = readCase('mixtral');
const checkpoint = familyCheckpoint(golden);
const rng = createRng(5);
const normal = (cols: number) =>
  matrix(
    Float32Array.from({ length: TOKENS * cols }, () => rng.normal()),
    TOKENS,
    cols,
  );
let a: Architecture;
let x: ReturnType<typeof normal>;
let dOut: ReturnType<typeof normal>;
let wanted: { x: number[]; router: number[] };

beforeAll(async () => {
  a = parseHfConfig(golden.config, (name) => Object.hasOwn(golden.tensors, name));
  [x, dOut] = [normal(a.hidden), normal(a.hidden)];
  const rows = async (tensor: string) => {
    const { data, shape } = decode(await checkpoint.read(tensor));
    return double.rowsOf(data, shape[1]!);
  };
  const weights = new Map<string, double.Rows>();
  for (const site of a.sites) if (site.layer === 0) weights.set(`${site.role} ${site.expert ?? ''}`, await rows(site.tensor));
  const w = (role: Site['role'], expert: number | '' = '') => weights.get(`${role} ${expert}`)!;
  const norms = await Promise.all([a.tensors.attentionNorm[0]!, a.tensors.mlpNorm[0]!].map(async (name) => (await rows(name))[0]!));
  const angles = (f: (v: number) => number) =>
    Array.from({ length: TOKENS }, (_, p) =>
      Array.from({ length: a.headDim / 2 }, (_, i) => Math.fround(f(p * a.rope.theta ** ((-2 * i) / a.headDim)))),
    );
  const [cos, sin] = [angles(Math.cos), angles(Math.sin)];
  const { heads, kvHeads, headDim, attention, moe } = a;
  const shape = { heads, kvHeads, headDim, scale: attention.scale, window: attention.windows[0] ?? undefined };
  const forward = (input: double.Rows): double.Rows => {
    const n = double.rmsNorm(input, norms[0]!, a.norm.eps);
    const turned = (role: 'q' | 'k') => double.rope(double.linear(n, w(role)), cos, sin, headDim, 'half');
    const mixed = double.attention(turned('q'), turned('k'), double.linear(n, w('v')), shape);
    const h = double.add(input, double.linear(mixed, w('o')));
    return h.map((row, t) => {
      const [m] = double.rmsNorm([row], norms[1]!, a.norm.eps);
      const p = double.softmax(double.linear([m!], w('router'))[0]!);
      const top = [...p.keys()].sort((i, j) => p[j]! - p[i]!).slice(0, moe!.topK);
      const sum = top.reduce((s, e) => s + p[e]!, 0);
      return top.reduce((out, e) => {
        const act = double.glu(double.linear([m!], w('gate', e)), double.linear([m!], w('up', e)), 'silu');
        return out.map((v, c) => v + (p[e]! / sum) * double.linear(act, [w('down', e)[c]!])[0]![0]!);
      }, h[t]!);
    });
  };
  const [xs, c] = [double.rowsOf(x.data, a.hidden), double.rowsOf(dOut.data, a.hidden)];
  const loss = () => forward(xs).reduce((s, row, r) => row.reduce((sum, v, i) => sum + v * c[r]![i]!, s), 0);
  wanted = { x: double.slopes(xs, loss), router: double.slopes(w('router'), loss) };
});

it.each(Object.entries(BACKENDS))('gradients of a block of experts on %s are slopes', async (_, make) => {
  const backend = await make();
  const s = backend.scope();
  const rope = loadRope(a, backend, TOKENS);
  const block = await loadBlock(checkpoint, a, 0, backend);
  let router = new Float32Array();
  const dx = await blockBackward(s, block, s.upload(x), s.upload(dOut), {
    architecture: a,
    rope,
    onWeightGradient: async ({ role }, g) => {
      if (role === 'router') router = Float32Array.from((await s.read(g)).data);
    },
  });
  const { data } = await s.read(dx);
  for (const [found, slopes] of [
    [data, wanted.x],
    [router, wanted.router],
  ] as const) {
    expect(found.length).toBe(slopes.length);
    const largest = slopes.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
    const off = slopes.reduce((max, v, i) => Math.max(max, Math.abs(v - found[i]!)), 0);
    expect(off / largest).toBeLessThan(5e-6);
  }
  for (const owned of [block, rope, s]) owned.dispose();
});

it('refuses a linear that rounds its input, by name, and a gradient of another shape', async () => {
  const backend = await BACKENDS.js!();
  const s = backend.scope();
  const rope = loadRope(a, backend, TOKENS);
  const block = await loadBlock(checkpoint, a, 0, backend);
  const { site, linear } = block.at('o');
  const narrow = blockBackward(s, block, s.upload(x), s.alloc(TOKENS, 3), { architecture: a, rope });
  await expect(narrow).rejects.toMatchObject({ code: 'argument/shape' });
  const weight = { ...linear.weight };
  const rounded = {
    ...block,
    linears: new Map([[site.name, { ...block.at('o'), linear: { weight, input: { kind: 'llm-int8', threshold: 6 } } }]]),
  };
  const refused = blockBackward(s, rounded as never, s.upload(x), s.upload(dOut), { architecture: a, rope });
  await expect(refused).rejects.toMatchObject({ code: 'model/unsupported', facts: { tensor: site.tensor } });
});
