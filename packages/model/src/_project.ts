/**
 * The first steps of attention: what each token asks for, offers and carries.
 * @module
 */
import type { Handle, Scope } from '@lmq/tensor';
import type { Architecture, Block, BlockContext, LoadedSite, RopeTables } from './api.js';

/** Of x [tokens, hidden]. */
export interface Projections {
  /** The normed input of the three linears. */
  n: Handle;
  /** Queries and keys as the linears make them, where heads are normed; else the same handles as `q` and `k`. */
  rawQ: Handle;
  rawK: Handle;
  /** Ready for attention: heads normed, turned. */
  q: Handle;
  k: Handle;
  v: Handle;
}

/** All in `t`. */
export function project(t: Scope, block: Block<LoadedSite>, x: Handle, ctx: BlockContext): Projections {
  const { architecture: a, position = 0 } = ctx;
  const n = t.rmsNorm(x, block.norms.attention, a.norm.eps);
  ctx.tap?.(block.at('q').site.input, n);
  const rawQ = t.linear(n, block.at('q').loaded);
  const rawK = t.linear(n, block.at('k').loaded);
  const v = t.linear(n, block.at('v').loaded);
  const q = perHead(t, rawQ, block.norms.query, a);
  const k = perHead(t, rawK, block.norms.key, a);
  const { cos, sin } = anglesOf(block, ctx);
  const turn = { headDim: a.headDim, style: a.rope.style, position };
  t.rope(q, cos, sin, turn);
  t.rope(k, cos, sin, turn);
  return { n, rawQ, rawK, q, k, v };
}

/** The last keys that a query of the block sees; undefined: all. */
export function windowOf(block: Block<LoadedSite>, { attention }: Architecture): number | undefined {
  return attention.windows[block.layer] ?? undefined;
}

/** The rotation angles of a block. */
export function anglesOf(
  block: Block<LoadedSite>,
  { architecture, rope }: Pick<BlockContext, 'architecture' | 'rope'>,
): Pick<RopeTables, 'cos' | 'sin'> {
  return (windowOf(block, architecture) !== undefined && rope.local) || rope;
}

/** Norms each head of x [tokens, heads * headDim] by itself. */
function perHead(t: Scope, x: Handle, weight: Handle | undefined, { headDim, norm }: Architecture): Handle {
  if (!weight) return x;
  const rows = (x.rows * x.cols) / headDim;
  return t.reshape(t.rmsNorm(t.reshape(x, rows, headDim), weight, norm.eps), x.rows, x.cols);
}
