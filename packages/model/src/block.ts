/**
 * One transformer block: loading its weights, and running it.
 *
 *     h = x + post(o(attention(rope(norm(q(n))), rope(norm(k(n))), v(n))))     n = rmsNorm(x)
 *     y = h + post(mlp(rmsNorm(h)))                                            mlp: down(activation(gate) * up), or experts
 *
 * Norms of queries and keys (per head) and of the halves' outputs (`post`) are there where the family has them.
 * Temporaries live in scopes of their own and are freed before the block returns; only the residual stream outlives them.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { sliceRows } from '@lmq/formats';
import { type Backend, type CompressedTensor, type Handle, type Linear, LmqError, type LoadOpts, type Scope } from '@lmq/tensor';
import { mlp } from './_mlp.js';
import { project, windowOf } from './_project.js';
import { readNorm, readVector, readWeight } from './_weights.js';
import type { Architecture, Block, BlockContext, BlockNorms, LoadedSite, Site } from './api.js';
import { siteShape } from './architecture.js';
import { moeForward } from './moe.js';

/**
 * Reads a block's weights, one tensor at a time, and loads them into a backend. The caller disposes the block.
 * @param layer 0 … layers - 1
 * @throws LmqError `model/missing`, `model/config` for shapes that do not fit, `model/unsupported` for biases that the configuration does
 *   not declare, `argument/value` for NaN or infinite weights, `backend/memory`, `file/*`
 */
export function loadBlock(checkpoint: Checkpoint, architecture: Architecture, layer: number, backend: Backend): Promise<Block> {
  return readBlock(checkpoint, architecture, layer, backend, (site, linear) => ({ site, linear, loaded: backend.load(linear) }));
}

/** The same without keeping the stored weights, for a model that only runs. */
export function loadResidentBlock(
  checkpoint: Checkpoint,
  architecture: Architecture,
  layer: number,
  backend: Backend,
  opts: LoadOpts = {},
): Promise<Block<LoadedSite>> {
  return readBlock(checkpoint, architecture, layer, backend, (site, linear) => ({ site, loaded: backend.load(linear, opts) }));
}

async function readBlock<S extends LoadedSite>(
  checkpoint: Checkpoint,
  architecture: Architecture,
  layer: number,
  backend: Backend,
  load: (site: Site, linear: Linear) => S,
): Promise<Block<S>> {
  const op = 'loadBlock';
  if (!(Number.isInteger(layer) && layer >= 0 && layer < architecture.layers)) {
    throw new LmqError('argument/option', 'there is no such layer', { op, expected: `0 … ${architecture.layers - 1}`, found: layer });
  }
  const linears = new Map<string, S>();
  const home = backend.scope();
  try {
    const norms = await readNorms(checkpoint, architecture, layer, home);
    const stacks = new Map<string, CompressedTensor>(); // tensors of several sites: read once
    for (const site of architecture.sites) {
      if (site.layer !== layer) continue;
      linears.set(site.name, load(site, await readLinear(checkpoint, architecture, site, stacks)));
    }
    return createBlock(layer, backend, home, norms, linears, load);
  } catch (e) {
    for (const { loaded } of linears.values()) loaded.dispose();
    home.dispose();
    throw e;
  }
}

async function readNorms(checkpoint: Checkpoint, architecture: Architecture, layer: number, home: Scope): Promise<BlockNorms> {
  const { tensors, hidden, headDim, norm } = architecture;
  const read = async (name: string, n: number) => home.upload(await readNorm(checkpoint, name, n, norm.plusOne, 'loadBlock'));
  const norms: { -readonly [K in keyof BlockNorms]: BlockNorms[K] } = {
    attention: await read(tensors.attentionNorm[layer]!, hidden),
    mlp: await read(tensors.mlpNorm[layer]!, hidden),
  };
  if (tensors.attentionPostNorm) norms.attentionPost = await read(tensors.attentionPostNorm[layer]!, hidden);
  if (tensors.mlpPostNorm) norms.mlpPost = await read(tensors.mlpPostNorm[layer]!, hidden);
  if (tensors.queryNorm) norms.query = await read(tensors.queryNorm[layer]!, headDim);
  if (tensors.keyNorm) norms.key = await read(tensors.keyNorm[layer]!, headDim);
  return norms;
}

async function readLinear(
  checkpoint: Checkpoint,
  architecture: Architecture,
  site: Site,
  stacks: Map<string, CompressedTensor>,
): Promise<Linear> {
  const op = 'loadBlock';
  const [out, width] = siteShape(architecture, site);
  const bias = site.tensor.replace(/weight$/, 'bias');
  if (site.bias === undefined && bias !== site.tensor && checkpoint.tensors.has(bias)) {
    throw new LmqError('model/unsupported', 'the checkpoint has a bias that the configuration does not declare', { op, tensor: bias });
  }
  let weight: CompressedTensor;
  if (site.slice) {
    const rows = Math.max(...architecture.sites.map((s) => (s.tensor === site.tensor && s.slice ? s.slice[1] : 0)));
    const stored = site.expert === undefined ? [rows, width] : [rows / out, out, width]; // fused, or stacked
    const stack = stacks.get(site.tensor) ?? (await readWeight(checkpoint, site.tensor, stored, op));
    stacks.set(site.tensor, stack);
    weight = sliceRows(stack, ...site.slice);
  } else weight = await readWeight(checkpoint, site.tensor, [out, width], op);
  const input = checkpoint.inputs?.get(site.tensor);
  return {
    weight,
    ...(site.bias !== undefined && { bias: (await readVector(checkpoint, site.bias, out, op)).data }),
    ...(input && { input }),
  };
}

function createBlock<S extends LoadedSite>(
  layer: number,
  backend: Backend,
  home: Scope,
  norms: BlockNorms,
  linears: Map<string, S>,
  load: (site: Site, linear: Linear) => S,
): Block<S> {
  const key = (role: Site['role'], expert?: number) => (expert === undefined ? role : `${role} ${expert}`);
  const names = new Map([...linears.values()].map(({ site }) => [key(site.role, site.expert), site.name]));
  const entry = (name: string | undefined, op: string, asked: string): S => {
    const found = name === undefined ? undefined : linears.get(name);
    if (found) return found;
    throw new LmqError('argument/option', `block ${layer} has no such linear`, {
      op,
      expected: [...linears.keys()].join(', '),
      found: asked,
    });
  };
  return {
    layer,
    backend,
    norms,
    linears,
    get bytes() {
      let sum = 0;
      for (const norm of Object.values(norms) as Handle[]) sum += 4 * norm.cols;
      for (const { loaded } of linears.values()) sum += loaded.bytes;
      return sum;
    },
    at: (role, expert) => entry(names.get(key(role, expert)), 'block.at', key(role, expert)),
    setLinear(name, linear) {
      const old = entry(name, 'setLinear', name);
      const [out, width] = linear.weight.shape;
      if (out !== old.loaded.out || width !== old.loaded.in) {
        throw new LmqError('argument/shape', `the weight does not fit ${name}`, {
          op: 'setLinear',
          expected: `${old.loaded.out} x ${old.loaded.in}`,
          found: `${out} x ${width}`,
        });
      }
      linears.set(name, load(old.site, linear));
      old.loaded.dispose();
    },
    dispose() {
      for (const { loaded } of linears.values()) loaded.dispose();
      home.dispose();
    },
  };
}

/**
 * Runs a block on x [tokens, hidden]; the result, of the same shape, belongs to `s`, and x is left as it was.
 * @throws LmqError `argument/value` when positions do not follow the cache; `s`'s abort reason
 */
export async function blockForward(s: Scope, block: Block<LoadedSite>, x: Handle, ctx: BlockContext): Promise<Handle> {
  const h = await attentionForward(s, block, x, ctx);
  const y = await mlpForward(s, block, h, ctx);
  s.free(h);
  return y;
}

/** The second half of a block, its MLP or experts: h → y. The result belongs to `s`, h is left as it was. @throws LmqError as `blockForward` */
export function mlpForward(s: Scope, block: Block<LoadedSite>, h: Handle, ctx: BlockContext): Promise<Handle> {
  return ctx.architecture.moe ? moeForward(s, block, h, ctx) : mlpHalf(s, block, h, ctx);
}

/** The first half of a block, its attention: x → h. The result belongs to `s`, x is left as it was. @throws LmqError as `blockForward` */
export async function attentionForward(s: Scope, block: Block<LoadedSite>, x: Handle, ctx: BlockContext): Promise<Handle> {
  const { architecture: a, cache, position = 0 } = ctx;
  if (position !== 0 && !cache) {
    throw new LmqError('argument/value', 'a position needs the keys before it', {
      op: 'blockForward',
      found: position,
      hint: 'Pass a cache.',
    });
  }
  const t = s.backend.scope();
  try {
    const { n, q, k, v } = project(t, block, x, ctx);
    t.free(n);
    const { keys, values } = cache ? cache.append(t, k, v, position) : { keys: k, values: v };
    await s.flush();
    const { heads, kvHeads, headDim, attention } = a;
    const mixed = t.attention(q, keys, values, { heads, kvHeads, headDim, position, scale: attention.scale, window: windowOf(block, a) });
    await s.flush();
    const o = block.at('o');
    ctx.tap?.(o.site.input, mixed);
    const out = post(t, t.linear(mixed, o.loaded), block.norms.attentionPost, a);
    t.addTo(out, x);
    await s.flush();
    return t.keep(out, s);
  } finally {
    t.dispose();
  }
}

async function mlpHalf(s: Scope, block: Block<LoadedSite>, x: Handle, ctx: BlockContext): Promise<Handle> {
  const t = s.backend.scope();
  try {
    const n = t.rmsNorm(x, block.norms.mlp, ctx.architecture.norm.eps);
    const out = post(t, await mlp(t, s, block, n, ctx), block.norms.mlpPost, ctx.architecture);
    t.addTo(out, x);
    await s.flush();
    return t.keep(out, s);
  } finally {
    t.dispose();
  }
}

/** Norms the output of one half. */
function post(t: Scope, x: Handle, weight: Handle | undefined, { norm }: Architecture): Handle {
  return weight ? t.rmsNorm(x, weight, norm.eps) : x;
}
