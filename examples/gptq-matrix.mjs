// GPTQ on one matrix: what a user of only @lmq/gptq writes.
import { bitsPerWeight, decode } from '@lmq/formats';
import { gptq } from '@lmq/gptq';
import { jsBackend } from '@lmq/kernels-js';
import { createHessian, proxyLoss, rtn } from '@lmq/quant-core';
import { createRng, matrix } from '@lmq/tensor';

const rng = createRng(1);
const [out, width, tokens] = [64, 128, 512];
const w = matrix(
  Float32Array.from({ length: out * width }, () => rng.normal()),
  out,
  width,
);

// Inputs whose channels are correlated, as real activations are: then errors of one column can be made up for by others.
const x = new Float32Array(tokens * width);
for (let t = 0; t < tokens; t++) {
  const shared = Array.from({ length: 8 }, () => rng.normal());
  for (let c = 0; c < width; c++) x[t * width + c] = shared[c % 8] + 0.3 * rng.normal();
}

const backend = jsBackend();
const s = backend.scope();
const hessian = createHessian(backend, width);
hessian.add(s.upload(matrix(x, tokens, width)));
const h = await hessian.read();
s.dispose();
hessian.dispose();

for (const bits of [4, 3, 2]) {
  const plain = rtn(w, { bits, groupSize: 32 }).weight;
  const { weight } = await gptq(w, h, { bits, groupSize: 32 });
  const error = (q) => proxyLoss(w, decode(q), h).relative.toExponential(2);
  console.log(`${bits}-bit, ${bitsPerWeight(weight)} bits per weight: output error ${error(plain)} rounded, ${error(weight)} GPTQ`);
}
