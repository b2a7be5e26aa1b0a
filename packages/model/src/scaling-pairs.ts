/**
 * Where the channels of a linear's input can be scaled without changing the model: what makes the input is linear in each channel, so a factor
 * taken from its weight can be given to the columns of all linears that read it. This is what AWQ and SmoothQuant fold scales into.
 *
 * From the data flow of a block (block.ts):
 *
 *     attention norm → q, k, v            norm → gate, up (of experts too) and the router
 *     v → o                               attention mixes values of one channel; only where every query head has values of its own
 *     up → down (of each expert)          down's input is activation(gate) * up
 * @module
 */
import type { Architecture, Site } from './api.js';

/** A producer of channels and everything that reads them. */
export interface ScalingPair {
  layer: number;
  /** `Site.input` under which a tap sees the channels, all tokens that the producer makes. */
  input: string;
  /** A norm's weight, by tensor name, or a linear with as many rows as the readers have columns. */
  from: { norm: string } | { linear: Site };
  to: Site[];
  /** The half of the block that all of it belongs to. */
  half: 'attention' | 'mlp';
}

/** Linears whose input cannot be scaled this way. */
export interface UnscalableSite {
  site: Site;
  why: string;
}

/** The pairs of a model in the order of a forward pass, and the linears that are in none. */
export function scalingPairs(architecture: Architecture): { pairs: ScalingPair[]; without: UnscalableSite[] } {
  const { tensors, heads, kvHeads } = architecture;
  const pairs: ScalingPair[] = [];
  const without: UnscalableSite[] = [];
  for (let layer = 0; layer < architecture.layers; layer++) {
    const sites = architecture.sites.filter((s) => s.layer === layer);
    const of = (...roles: Site['role'][]) => sites.filter((s) => (roles as string[]).includes(s.role));
    const q = of('q');
    pairs.push({ layer, input: q[0]!.input, from: { norm: tensors.attentionNorm[layer]! }, to: of('q', 'k', 'v'), half: 'attention' });
    for (const o of of('o')) {
      if (heads === kvHeads) pairs.push({ layer, input: o.input, from: { linear: of('v')[0]! }, to: [o], half: 'attention' });
      else without.push({ site: o, why: `${heads} query heads share the values of ${kvHeads}` });
    }
    const reads = of('router', 'gate', 'up');
    const first = reads.find((s) => s.role === 'router') ?? reads[0]!; // the router sees every token, an expert only its own
    pairs.push({ layer, input: first.input, from: { norm: tensors.mlpNorm[layer]! }, to: reads, half: 'mlp' });
    for (const down of of('down')) {
      const up = sites.find((s) => s.role === 'up' && s.expert === down.expert)!;
      pairs.push({ layer, input: down.input, from: { linear: up }, to: [down], half: 'mlp' });
    }
  }
  return { pairs, without };
}
