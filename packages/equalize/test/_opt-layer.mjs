/**
 * One linear whose input has the channel maxima of a real model: how far its output is from that in float32, by each method, multiplied by
 * the kernels that run models.
 */
import { awqScales, foldIntoColumns, smoothQuant } from '@lmq/equalize';
import { createHessian, rtn } from '@lmq/quant-core';
import { createRng, matrix } from '@lmq/tensor';

/** Normal numbers, each channel scaled so that its largest magnitude is the one given. */
function inputLike(absMax, tokens, rng) {
  const width = absMax.length;
  const data = Float32Array.from({ length: tokens * width }, () => rng.normal());
  for (let c = 0; c < width; c++) {
    let largest = 0;
    for (let at = c; at < data.length; at += width) largest = Math.max(largest, Math.abs(data[at]));
    for (let at = c; at < data.length; at += width) data[at] *= absMax[c] / largest;
  }
  return matrix(data, tokens, width);
}

/**
 * Squared error of the outputs, relative to these, by method.
 * @param absMax largest |x| of each channel
 * @param opts `out` and `tokens`: rows of the weight (random, variance 1 / width) and of the input; `backend`; `awq`: also weight-only, in 4
 *   and 3 bits with groups of 128
 */
export async function layerErrors(absMax, { out, tokens, backend, awq = false }) {
  const rng = createRng(1);
  const width = absMax.length;
  const x = inputLike(absMax, tokens, rng);
  const w = matrix(
    Float32Array.from({ length: out * width }, () => rng.normal() / Math.sqrt(width)),
    out,
    width,
  );
  const run = async (input, linear) => {
    const loaded = backend.load(linear);
    const s = backend.scope();
    try {
      return (await s.read(s.linear(s.upload(input), loaded))).data;
    } finally {
      s.dispose();
      loaded.dispose();
    }
  };
  const exact = await run(x, { weight: { kind: 'dense', shape: [out, width], format: 'fp32', data: w.data } });
  const power = exact.reduce((sum, v) => sum + v * v, 0);
  const errorOf = async (input, linear) => (await run(input, linear)).reduce((sum, v, i) => sum + (v - exact[i]) ** 2, 0) / power;
  const divided = (scales) =>
    foldIntoColumns(
      x,
      [...scales].map((v) => 1 / v),
    ); // prettier-ignore
  const int8 = (weight, input) => ({
    weight: rtn(weight, { bits: 8, symmetric: true, preset: 'smoothquant', scaleFormat: 'fp32' }).weight,
    input,
  });
  const token = { kind: 'int8', per: 'token', symmetric: true };
  const tensor = { kind: 'int8', per: 'tensor', symmetric: true };
  const { scales: smooth } = await smoothQuant({ linears: [w], stats: { absMax } }, { alpha: 0.5 });
  const errors = {
    'W8, float input': await errorOf(x, int8(w)),
    'naive W8A8, per token': await errorOf(x, int8(w, token)),
    'naive W8A8, per tensor': await errorOf(x, int8(w, tensor)),
    'SmoothQuant 0.5, per token': await errorOf(divided(smooth), int8(foldIntoColumns(w, smooth), token)),
    'SmoothQuant 0.5, per tensor': await errorOf(divided(smooth), int8(foldIntoColumns(w, smooth), tensor)),
    'LLM.int8(), threshold 6': await errorOf(x, int8(w, { kind: 'llm-int8', threshold: 6 })),
  };
  if (!awq) return errors;
  const meanAbs = new Float32Array(width);
  for (const [i, v] of x.data.entries()) meanAbs[i % width] += Math.abs(v) / tokens;
  const hessian = createHessian(backend, width);
  const s = backend.scope();
  hessian.add(s.upload(x));
  for (const bits of [4, 3]) {
    const grid = { bits, groupSize: 128, preset: 'awq' };
    const { scales } = await awqScales({ linears: [{ weight: w, grid }], stats: { meanAbs, hessian: hessian.sum } }, { backend });
    errors[`RTN, ${bits} bits g128`] = await errorOf(x, rtn(w, grid));
    errors[`AWQ, ${bits} bits g128`] = await errorOf(divided(scales), rtn(foldIntoColumns(w, scales), grid));
  }
  s.dispose();
  hessian.dispose();
  return errors;
}

/** The name of the input with the largest ratio of its largest channel to the median one, among those that norms feed. */
export function spikiest(maxima) {
  const ratio = (values) => Math.max(...values) / values.toSorted()[values.length >> 1];
  const fed = [...maxima].filter(([name]) => name.endsWith('q_proj') || name.endsWith('fc1'));
  return fed.reduce((a, b) => (ratio(b[1]) > ratio(a[1]) ? b : a))[0];
}
