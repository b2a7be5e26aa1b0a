/**
 * Outliers in a model that has none: the weight of a norm times s, the columns of all that reads it divided by s, for the channels and factors
 * that OPT's inputs show. The model computes what it did; what its linears read looks like OPT.
 */
import { foldIntoColumns, foldIntoVector } from '@lmq/equalize';
import { decode, dense } from '@lmq/formats';
import { scalingPairs } from '@lmq/model';

/**
 * Factors as OPT's maxima have them: the ratio of a channel's to the median, where it is at least 3. Layers are those of OPT at the same
 * depth, channels those at the same share of the width, so that outliers keep to their channels from layer to layer as they do in OPT.
 * @param maxima of `readOptMaxima`
 * @param growth exponent of the ratios; larger models have larger outliers
 */
export function optFactors(maxima, { layers, hidden }, growth = 1) {
  const depth = [...maxima.keys()].filter((name) => name.endsWith('fc1')).length;
  return ({ layer, half }) => {
    const at = Math.floor(((layer + 0.5) * depth) / layers);
    const values = maxima.get(`model.decoder.layers.${at}.${half === 'attention' ? 'self_attn.q_proj' : 'fc1'}`);
    const median = values.toSorted()[values.length >> 1];
    const factors = new Float32Array(hidden).fill(1);
    for (const [c, v] of values.entries()) {
      const to = Math.floor((c * hidden) / values.length);
      if (v >= 3 * median) factors[to] = Math.max(factors[to], (v / median) ** growth);
    }
    return factors;
  };
}

/**
 * The changed tensors by name, float32, to lay over the checkpoint.
 * @param factorsOf of a pair of `scalingPairs` whose channels a norm makes
 */
export async function plantOutliers({ checkpoint, architecture }, factorsOf) {
  const changed = new Map();
  const read = async (name) => decode(changed.get(name) ?? (await checkpoint.read(name)));
  const put = (name, { data, shape: [rows, cols] }) => changed.set(name, dense('fp32', data, rows, cols));
  for (const pair of scalingPairs(architecture).pairs) {
    if (!('norm' in pair.from)) continue;
    const scales = factorsOf(pair).map((s) => 1 / s);
    const data = foldIntoVector((await read(pair.from.norm)).data, scales, { plusOne: architecture.norm.plusOne });
    put(pair.from.norm, { data, shape: [1, data.length] });
    for (const { tensor } of pair.to) put(tensor, foldIntoColumns(await read(tensor), scales));
  }
  return changed;
}
