/**
 * One layer's attention: heads that share keys and values (Ainslie et al. 2023, GQA), RoPE, and a cache that the caller hands in and gets
 * back longer by the tokens of the run.
 * @module
 */
import type { Architecture, Site } from '@lmq/model';
import { type Builder, MICROSOFT } from './_builder.js';
import { linear, type Source, vector } from './_linear.js';
import type { Run } from './_mask.js';
import { rmsNorm } from './_norm.js';
import type { Angles } from './_rope.js';

/** What the layers of one run share. */
export interface AttentionShared {
  run: Run;
  angles: Angles;
  /** Of layers with a window, where theirs differ. */
  localAngles?: Angles;
  /** Which row of the angles each token has: int64 [batch, tokens]. */
  rows: string;
  /** Shape of queries, and of keys and values, with the tokens of each sequence apart: int64 [3]. */
  queryShape: string;
  keyShape: string;
}

/** x [tokens, hidden], normed → what the layer's attention says, of the same shape. */
export async function attention(
  source: Source,
  x: string,
  layer: number,
  site: (role: Site['role']) => Site,
  shared: AttentionShared,
): Promise<string> {
  const { g, architecture: a } = source;
  const { run, rows, queryShape, keyShape } = shared;
  const name = `model.layers.${layer}.self_attn`;
  const window = a.attention.windows[layer] ?? null;
  const angles = (window !== null && shared.localAngles) || shared.angles;
  const apart = (y: string, shape: string) => g.op(name, 'Reshape', [y, shape]);
  const q = headNorm(source, await linear(source, x, site('q')), layer, 'query');
  const k = headNorm(source, await linear(source, x, site('k')), layer, 'key');
  const v = apart(await linear(source, x, site('v')), keyShape);
  const turned = (y: string, heads: number) => rotate(g, y, a, heads, rows, angles, name);
  const mixed = g.op(
    name,
    'GroupQueryAttention',
    [
      turned(apart(q, queryShape), a.heads),
      turned(apart(k, keyShape), a.kvHeads),
      v,
      cacheInput(g, a, layer, 'key'),
      cacheInput(g, a, layer, 'value'),
      run.seqlens,
      run.total,
      '',
      '',
      '',
      run.bias(window),
    ],
    {
      domain: MICROSOFT,
      attributes: { num_heads: { int: a.heads }, kv_num_heads: { int: a.kvHeads }, scale: { float: a.attention.scale } },
      outputs: [`${name}/mixed`, cacheOutput(g, a, layer, 'key'), cacheOutput(g, a, layer, 'value')],
    },
  );
  return linear(source, g.op(name, 'Reshape', [mixed, g.ints([-1, a.heads * a.headDim])]), site('o'));
}

/** Norms each head of x [tokens, heads * headDim] by itself; the result is [tokens * heads, headDim]. */
function headNorm(source: Source, x: string, layer: number, which: 'query' | 'key'): string {
  const { g, architecture: a } = source;
  const tensor = a.tensors[`${which}Norm`]?.[layer];
  if (!tensor) return x;
  const name = `model.layers.${layer}.self_attn.${which[0]}_norm`;
  const weight = vector(source, tensor, `${name}.weight`, a.headDim, (w) => (a.norm.plusOne ? 1 + w : w));
  return rmsNorm(g, g.op(name, 'Reshape', [x, g.ints([-1, a.headDim])]), weight, a.norm.eps, name);
}

function rotate(g: Builder, x: string, { rope, headDim }: Architecture, heads: number, rows: string, angles: Angles, name: string): string {
  const part = rope.rotary < headDim;
  return g.op(name, 'RotaryEmbedding', [x, rows, angles.cos, angles.sin], {
    domain: MICROSOFT,
    attributes: {
      interleaved: { int: rope.style === 'interleaved' ? 1 : 0 },
      ...(part && { num_heads: { int: heads }, rotary_embedding_dim: { int: rope.rotary } }),
    },
  });
}

function cacheInput(g: Builder, a: Architecture, layer: number, what: 'key' | 'value'): string {
  const shape = ['batch_size', a.kvHeads, 'past_sequence_length', a.headDim];
  return g.input({ name: `past_key_values.${layer}.${what}`, type: 'FLOAT', shape });
}

function cacheOutput(g: Builder, a: Architecture, layer: number, what: 'key' | 'value'): string {
  const name = `present.${layer}.${what}`;
  g.output({ name, type: 'FLOAT', shape: ['batch_size', a.kvHeads, 'total_sequence_length', a.headDim] });
  return name;
}
