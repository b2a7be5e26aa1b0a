// Rounds one random matrix to 4, 3 and 2 bits, plainly and with GPTQ, and says how much each changes the layer's output.
// Runs the same in a page, in a worker and in Node.
import { bitsPerWeight, decode } from '@lmq/formats';
import { gptq } from '@lmq/gptq';
import { wasmBackend } from '@lmq/kernels-wasm';
import { createHessian, proxyLoss, rtn } from '@lmq/quant-core';
import { createRng, matrix } from '@lmq/tensor';

const GROUP_SIZE = 128;
const TILE = 512; // tokens

/** About normal: four uniform numbers, their sum scaled to variance 1. Sums are exact in every engine, logarithms are not. */
const noise = (rng) => (rng.uniform() + rng.uniform() + rng.uniform() + rng.uniform() - 2) * Math.sqrt(3);

/** Inputs of a layer whose channels are correlated, as real activations are: then other columns can make up for the error of one. */
function activations(rng, tokens, width) {
  const x = new Float32Array(tokens * width);
  const shared = new Float32Array(8);
  for (let t = 0; t < tokens; t++) {
    for (let k = 0; k < shared.length; k++) shared[k] = noise(rng);
    for (let c = 0; c < width; c++) x[t * width + c] = shared[c % shared.length] + 0.3 * noise(rng);
  }
  return x;
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (b) => b.toString(16).padStart(2, '0')).join('');
}

/**
 * @param {{ rows: number, cols: number, tokens: number, seed: number, kernel?: string, signal?: AbortSignal,
 *   onProgress?: (p: { text: string, part: number }) => void, onRow?: (row: object) => void }} opts `part` of the work done, 0 to 1
 * @returns what the table shows, the variant of the kernels, and the class of the tensors (scijs's own where code from strings is allowed)
 */
export async function runExperiment({ rows, cols, tokens, seed, kernel, signal, onProgress = () => {}, onRow = () => {} }) {
  const widths = [4, 3, 2];
  const backend = await wasmBackend({ kernel });
  const rng = createRng(seed);
  const w = matrix(
    Float32Array.from({ length: rows * cols }, () => noise(rng)),
    rows,
    cols,
  );

  const hessian = createHessian(backend, cols);
  for (let done = 0; done < tokens; done += TILE) {
    const n = Math.min(TILE, tokens - done);
    const s = backend.scope({ signal });
    hessian.add(s.upload(matrix(activations(rng, n, cols), n, cols)));
    await s.flush(); // here the page gets its turn
    s.dispose();
    onProgress({ text: 'calibrating', part: (0.25 * (done + n)) / tokens });
  }
  const h = await hessian.read();
  hessian.dispose();

  const table = [];
  for (const [i, bits] of widths.entries()) {
    const part = (done) => 0.25 + (0.75 * (i + done)) / widths.length;
    const opts = { bits, groupSize: GROUP_SIZE };
    const nearest = rtn(w, opts).weight;
    const start = performance.now();
    const { weight } = await gptq(w, h, {
      ...opts,
      backend,
      signal,
      onProgress: (p) => onProgress({ text: `GPTQ, ${bits} bits`, part: part(p.done / p.total) }),
    });
    const row = {
      bits,
      bitsPerWeight: bitsPerWeight(weight),
      seconds: (performance.now() - start) / 1000,
      rtn: proxyLoss(w, decode(nearest), h).relative,
      gptq: proxyLoss(w, decode(weight), h).relative,
      sha256: await sha256(weight.codes),
    };
    table.push(row);
    onRow(row);
  }
  return { variant: backend.variant, tensorClass: w.constructor.name, table };
}
