// GPTQ of one layer from a given Hessian, 4 bits, groups of 128, on kernels-wasm. Build first, then: node bench/layer.bench.mjs [size …]
// Prints process CPU seconds (they repeat on a busy machine), wall seconds, and where the time goes. Seeded; one small warm-up layer.
import { cpus } from 'node:os';
import { gptq } from '@lmq/gptq';
import { wasmBackend } from '@lmq/kernels-wasm';
import { createHessian } from '@lmq/quant-core';
import { createRng, matrix } from '@lmq/tensor';

const backend = await wasmBackend();
console.log(`${cpus()[0].model}, Node ${process.version}, ${backend.variant}`);

async function layer(n) {
  const rng = createRng(n);
  const random = (length) => Float32Array.from({ length }, () => 2 * rng.u32() * 2 ** -32 - 1);
  const hessian = createHessian(backend, n);
  const s = backend.scope();
  for (let from = 0; from < 2 * n; from += 512) {
    const x = random(512 * n);
    for (let i = 1; i < x.length; i++) x[i] = 0.5 * x[i - 1] + x[i]; // neighbours resemble each other
    const h = s.upload(matrix(x, 512, n));
    hessian.add(h);
    s.free(h);
  }
  s.dispose();
  const h = await hessian.read();
  hessian.dispose();
  return { w: matrix(random(n * n), n, n), h };
}

const seconds = async (work) => {
  const cpu = process.cpuUsage();
  const wall = performance.now();
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { cpu: (user + system) / 1e6, wall: (performance.now() - wall) / 1000 };
};

const small = await layer(256);
for (let i = 0; i < 20; i++) await gptq(small.w, small.h, { bits: 4, groupSize: 128, backend });

const sizes = process.argv.slice(2).map(Number);
for (const n of sizes.length ? sizes : [1024, 2048, 4096]) {
  const { w, h } = await layer(n);
  const s = backend.scope();
  const up = s.upload(h);
  const eye = s.select(up, undefined, undefined);
  const parts = {};
  parts.cholesky = await seconds(() => s.free(s.cholesky(eye).factor));
  s.free(eye);
  s.free(up);
  s.dispose();
  const runs = [];
  for (let i = 0; i < (n > 2048 ? 3 : 5); i++) runs.push(await seconds(() => gptq(w, h, { bits: 4, groupSize: 128, backend })));
  runs.sort((a, b) => a.cpu - b.cpu);
  const best = runs[0];
  const median = runs[runs.length >> 1];
  console.log(
    `${n} x ${n}: CPU median ${median.cpu.toFixed(2)} s, best ${best.cpu.toFixed(2)} s; wall best ${Math.min(...runs.map((r) => r.wall)).toFixed(2)} s; Cholesky alone ${parts.cholesky.cpu.toFixed(2)} s`,
  );
}
