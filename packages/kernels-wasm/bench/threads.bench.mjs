// What threads bring: wall time of ops on 1, 2, 4 … threads, in turns. Build first, then: node bench/threads.bench.mjs [most threads] [pattern]
// Median (best) of 9 rounds in milliseconds, and the medians' ratio to one thread. Says something on a quiet machine only.
import { availableParallelism, cpus, loadavg } from 'node:os';
import { wasmBackend } from '@lmq/kernels-wasm';
import { createRng, matrix } from '@lmq/tensor';

const most = Number(process.argv[2] ?? availableParallelism());
const pattern = new RegExp(process.argv[3] ?? '');
const ROUNDS = 9;
const counts = [1, 2, 4, 8, 16].filter((n) => n <= most);
const backends = [];
for (const threads of counts) backends.push(await wasmBackend({ threads }));
console.log(`${cpus().length} x ${cpus()[0].model}, load ${loadavg()[0].toFixed(1)}, Node ${process.version}, ${backends[0].variant}`);

const rng = createRng(1);
const random = (n) => Float32Array.from({ length: n }, () => rng.normal());
const constant = (value, rows) => matrix(new Float32Array(rows).fill(value), rows, 1);

/** An op on a weight of `n` x `n`, `calls` times, so that a round is long enough to time. */
const linear =
  (weight, tokens, activations, calls = 1) =>
  (backend) => {
    const s = backend.scope();
    const loaded = backend.load({ weight }, { activations });
    const x = s.upload(matrix(random(tokens * weight.shape[1]), tokens, weight.shape[1]));
    return () => {
      for (let i = 0; i < calls; i++) s.free(s.linear(x, loaded));
    };
  };
const dense = (n) => ({ kind: 'dense', shape: [n, n], format: 'fp32', data: random(n * n) });
const int4 = (n) => ({
  kind: 'affine',
  shape: [n, n],
  bits: 4,
  groupSize: 32,
  codes: Uint8Array.from({ length: (n * n) / 2 }, () => rng.below(256)),
  scales: { block: [1, 32], format: 'fp32', data: random((n * n) / 32) },
});

const CASES = {
  'gemm 2048': (backend) => {
    const s = backend.scope();
    const [a, b] = [0, 1].map(() => s.upload(matrix(random(2 ** 22), 2048, 2048)));
    const out = s.alloc(2048, 2048);
    return () => s.gemm(a, b, { out });
  },
  'syrk, 512 tokens x 4096': (backend) => {
    const s = backend.scope();
    const x = s.upload(matrix(random(512 * 4096), 512, 4096));
    const h = s.alloc(4096, 4096);
    return () => s.syrk(h, x);
  },
  'cholesky 2048': (backend) => {
    const s = backend.scope();
    const a = s.alloc(2048, 2048);
    s.syrk(a, s.upload(matrix(random(2 ** 22), 2048, 2048)));
    s.addTo(
      a,
      s.upload(
        matrix(
          Float32Array.from({ length: 2 ** 22 }, (_, i) => (i % 2049 ? 0 : 2048)),
          2048,
          2048,
        ),
      ),
    );
    return () => s.free(s.cholesky(a).factor);
  },
  'linear fp32 4096², 128 tokens': linear(dense(4096), 128, 'float32'),
  'linear int4 4096² x int16, 128 tokens': linear(int4(4096), 128, 'int16'),
  'linear int4 4096² x int16, 1 token, 10 times': linear(int4(4096), 1, 'int16', 10),
  'linear int4 1024² x int16, 1 token, 100 times': linear(int4(1024), 1, 'int16', 100),
  'attention, 512 tokens, 16 heads of 64': (backend) => {
    const s = backend.scope();
    const q = s.upload(matrix(random(512 * 1024), 512, 1024));
    return () => s.free(s.attention(q, q, q, { heads: 16, kvHeads: 16, headDim: 64 }));
  },
  'obsSweep 4096 x 128': (backend) => {
    const s = backend.scope();
    const w = s.upload(matrix(random(4096 * 128), 4096, 128));
    const factor = random(128 * 128).map((v, i) => (i % 129 ? v / 50 : 1)); // diagonal 1
    const u = s.upload(matrix(factor, 128, 128));
    const grid = { scales: s.upload(constant(0.3, 4096)), zeroPoints: s.upload(constant(8, 4096)), bits: 4 };
    const opts = { start: 0, end: 128, blockEnd: 128, grid, codes: s.alloc(4096, 128, 'u8'), errors: s.alloc(4096, 128) };
    return () => s.obsSweep(w, u, opts);
  },
};

for (const [name, make] of Object.entries(CASES)) {
  if (!pattern.test(name)) continue;
  const works = backends.map(make);
  const times = works.map(() => []);
  for (const work of works) for (let i = 0; i < 8; i++) work(); // the engine replaces its first, slow code
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, work] of works.entries()) {
      const from = performance.now();
      work();
      times[i].push(performance.now() - from);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const t of times) t.sort((a, b) => a - b);
  const cells = times.map((t, i) => {
    const ratio = times[0][ROUNDS >> 1] / t[ROUNDS >> 1];
    return `${counts[i]}: ${t[ROUNDS >> 1].toFixed(2)} (${t[0].toFixed(2)})${i ? ` ${ratio.toFixed(2)}x` : ''}`;
  });
  console.log(`${name.padEnd(46)} ${cells.join('   ')}`);
}
for (const backend of backends) backend.dispose();
