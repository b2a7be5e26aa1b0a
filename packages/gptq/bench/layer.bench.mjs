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

/** The backend with a clock on every op: arithmetic runs at the call. */
function clocked(base) {
  const spent = {};
  const scope = (opts) =>
    new Proxy(base.scope(opts), {
      get(target, name) {
        const op = target[name];
        if (typeof op !== 'function') return op;
        return (...args) => {
          const from = performance.now();
          const result = op.apply(target, args);
          spent[name] = (spent[name] ?? 0) + (performance.now() - from) / 1000;
          return result;
        };
      },
    });
  return { backend: { ...base, scope }, spent };
}

const small = await layer(256);
for (let i = 0; i < 20; i++) await gptq(small.w, small.h, { bits: 4, groupSize: 128, backend });

const sizes = process.argv.slice(2).map(Number);
for (const n of sizes.length ? sizes : [1024, 2048, 4096]) {
  const { w, h } = await layer(n);
  const runs = [];
  for (let i = 0; i < (n > 2048 ? 3 : 5); i++) runs.push(await seconds(() => gptq(w, h, { bits: 4, groupSize: 128, backend })));
  runs.sort((a, b) => a.cpu - b.cpu);
  const best = runs[0];
  const median = runs[runs.length >> 1];
  console.log(
    `${n} x ${n}: CPU median ${median.cpu.toFixed(2)} s, best ${best.cpu.toFixed(2)} s; wall best ${Math.min(...runs.map((r) => r.wall)).toFixed(2)} s`,
  );
  const { backend: timed, spent } = clocked(backend);
  const { wall } = await seconds(() => gptq(w, h, { bits: 4, groupSize: 128, backend: timed }));
  const ops = Object.entries(spent).sort((a, b) => b[1] - a[1]);
  const inOps = ops.reduce((sum, [, t]) => sum + t, 0);
  const shown = ops.filter(([, t]) => t > 0.01 * wall).map(([name, t]) => `${name} ${t.toFixed(2)}`);
  console.log(`  of ${wall.toFixed(2)} s of wall time: ${shown.join(', ')}, outside the backend ${(wall - inOps).toFixed(2)}`);
}
