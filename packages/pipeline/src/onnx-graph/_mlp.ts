/**
 * A gated MLP (Shazeer 2020): down(activation(gate x) * up x).
 * @module
 */
import type { Site } from '@lmq/model';
import { MICROSOFT } from './_builder.js';
import { linear, type Source } from './_linear.js';

/** x [tokens, hidden], normed → the same shape. */
export async function mlp(source: Source, x: string, layer: number, site: (role: Site['role']) => Site): Promise<string> {
  const { g, architecture } = source;
  const name = `model.layers.${layer}.mlp`;
  const gate = await linear(source, x, site('gate'));
  const up = await linear(source, x, site('up'));
  const active =
    architecture.mlp.activation === 'silu'
      ? g.op(name, 'Mul', [gate, g.op(name, 'Sigmoid', [gate])])
      : g.op(name, 'FastGelu', [gate], { domain: MICROSOFT }); // the approximation by tanh
  return linear(source, g.op(name, 'Mul', [active, up]), site('down'));
}
