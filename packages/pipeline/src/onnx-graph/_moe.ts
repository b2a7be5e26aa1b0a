/**
 * Sparse mixture of experts as in Mixtral (Jiang et al. 2024, section 2.1): softmax over the router's logits, the k largest, normalised to
 * sum 1. Each expert computes the rows of the tokens that chose it, which may be none, and nothing else.
 * @module
 */
import type { Site } from '@lmq/model';
import { linear, type Source } from './_linear.js';
import { mlp } from './_mlp.js';

/** x [tokens, hidden], normed → the same shape. */
export async function moe(source: Source, x: string, layer: number, site: (role: Site['role'], expert?: number) => Site): Promise<string> {
  const { g, architecture } = source;
  const { experts, topK } = architecture.moe!;
  const name = `model.layers.${layer}.moe`;
  const last = { axis: { int: -1 } };
  const sum = (y: string, keepdims: number) => g.op(name, 'ReduceSum', [y, g.ints([-1])], { attributes: { keepdims: { int: keepdims } } });
  const probabilities = g.op(name, 'Softmax', [await linear(source, x, site('router'))], { attributes: last });
  const [most, chosen] = [`${name}/probabilities`, `${name}/experts`];
  g.op(name, 'TopK', [probabilities, g.ints([topK])], { attributes: last, outputs: [most, chosen] });
  const shares = g.op(name, 'Div', [most, sum(most, 1)]); // [tokens, topK]

  let out = g.op(name, 'Mul', [x, g.floats(0)]);
  for (let e = 0; e < experts; e++) {
    const hit = g.op(name, 'Equal', [chosen, g.ints([e], true)]);
    const share = sum(g.op(name, 'Where', [hit, shares, g.floats(0)]), 0); // [tokens]
    const rows = g.op(name, 'Transpose', [g.op(name, 'NonZero', [share])]); // [chosen tokens, 1]
    const own = g.op(name, 'GatherND', [x, rows]);
    const weight = g.op(name, 'Unsqueeze', [g.op(name, 'GatherND', [share, rows]), g.ints([1])]);
    const y = g.op(name, 'Mul', [await mlp(source, own, layer, (role) => site(role, e)), weight]);
    out = g.op(name, 'ScatterND', [out, rows, y], { attributes: { reduction: { string: 'add' } } });
  }
  return out;
}
