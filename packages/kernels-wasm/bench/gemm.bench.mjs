// Speed of the kernels, as a share of what the engine's 128-bit SIMD can do at most on this machine (ceiling.mjs), measured between the
// rounds of each line. Build first, then: node bench/gemm.bench.mjs [pattern] [simd128 | relaxed]
// Median and best of seeded, warm rounds in process CPU time, which repeats on a busy machine where wall time does not; wall is the best.
import { cpus } from 'node:os';
import { encodeTable4 } from '@lmq/formats';
import { wasmBackend } from '@lmq/kernels-wasm';
import { createRng, matrix } from '@lmq/tensor';
import { ceiling } from './ceiling.mjs';

const pattern = new RegExp(process.argv[2] ?? '');
const kernel = process.argv[3] ?? 'auto';
const backend = await wasmBackend({ kernel });
const peaks = { float: await ceiling(backend.variant === 'wasm-relaxed' ? 'relaxed' : 'simd128'), integer: await ceiling('dot') };
const rng = createRng(1);
const random = (n) => Float32Array.from({ length: n }, () => rng.normal());
console.log(`${cpus()[0].model}, Node ${process.version}, ${backend.variant}; GFLOP/s; % = best of the best ceiling in the same rounds`);

/** Seconds of CPU per call, and of wall time. */
function time(work, calls) {
  const from = process.cpuUsage();
  const start = performance.now();
  for (let i = 0; i < calls; i++) work();
  const wall = (performance.now() - start) / 1e3 / calls;
  const { user, system } = process.cpuUsage(from);
  return { cpu: (user + system) / 1e6 / calls, wall };
}

async function measure(name, operations, bytes, work, rounds = 9, peak = peaks.float) {
  if (!pattern.test(name)) return;
  const calls = Math.max(1, Math.ceil(0.005 / Math.max(time(work, 3).cpu, 1e-6))); // at least 5 ms a round
  const seconds = [];
  let top = 0;
  let wall = Number.POSITIVE_INFINITY;
  for (let i = 0; i < rounds; i++) {
    const took = time(work, calls);
    seconds.push(took.cpu);
    wall = Math.min(wall, took.wall);
    let done = 0;
    const spent = time(() => {
      done = peak();
    }, 3).cpu;
    top = Math.max(top, done / spent / 1e9);
    await new Promise((resolve) => setImmediate(resolve));
  }
  seconds.sort((a, b) => a - b);
  const rate = (t) => (operations / t / 1e9).toFixed(1).padStart(5);
  const [median, best] = [seconds[rounds >> 1], seconds[0]];
  const share = `${Math.round((100 * operations) / best / 1e9 / top)} % of ${top.toFixed(1)}`;
  const stream = bytes ? `, ${(bytes / best / 1e9).toFixed(1)} GB/s of weight` : '';
  const ms = (t) => (t * 1e3).toFixed(2).padStart(7);
  console.log(
    `${name.padEnd(42)} ${ms(median)} ms, best ${ms(best)}, wall ${ms(wall)}  median ${rate(median)}  best ${rate(best)}  (${share}${stream})`,
  );
}

// Many short calls: the engine replaces its first, slow code while they run.
{
  const s = backend.scope();
  const h = s.upload(matrix(random(96 * 96), 96, 96));
  const out = s.alloc(96, 96);
  for (let i = 0; i < 3000; i++) {
    s.gemm(h, h, { out, transposeB: i % 2 === 1 });
    if (i % 100 === 0) await s.flush();
  }
  s.dispose();
}

for (const n of [512, 1024, 2048]) {
  const s = backend.scope();
  const a = s.upload(matrix(random(n * n), n, n));
  const b = s.upload(matrix(random(n * n), n, n));
  const out = s.alloc(n, n);
  for (const [label, opts] of [
    ['NN', {}],
    ['NT', { transposeB: true }],
    ['TN', { transposeA: true }],
  ]) {
    if (n > 512 && label !== 'NN') continue;
    await measure(`gemm ${label} ${n}`, 2 * n ** 3, 0, () => s.gemm(a, b, { ...opts, out }), n > 1024 ? 5 : 9);
  }
  s.dispose();
}

{
  const [tokens, n] = [2048, 1024];
  const s = backend.scope();
  const x = s.upload(matrix(random(tokens * n), tokens, n));
  const h = s.alloc(n, n);
  await measure(`syrk ${tokens} x ${n}`, tokens * n * n, 0, () => s.syrk(h, x));
  s.dispose();
}

for (const n of [1024, 2048]) {
  const s = backend.scope();
  const x = s.upload(matrix(random(n * n), n, n));
  const a = s.alloc(n, n);
  s.syrk(a, x);
  const eye = matrix(new Float32Array(n * n), n, n);
  for (let i = 0; i < n; i++) eye.set(i, i, n);
  s.addTo(a, s.upload(eye));
  const keep = s.cholesky(a).factor;
  await measure(`cholesky ${n}`, n ** 3 / 3, 0, () => s.free(s.cholesky(a).factor));
  await measure(`triangularInverse ${n}`, n ** 3 / 3, 0, () => s.free(s.triangularInverse(keep)));
  s.dispose();
}

const width = 4096;
const count = width * width;
const weights = {
  fp32: () => ({ kind: 'dense', shape: [width, width], format: 'fp32', data: random(count) }),
  bf16: () => ({ kind: 'dense', shape: [width, width], format: 'bf16', data: Uint16Array.from(random(count), bf16) }),
  fp16: () => ({
    kind: 'dense',
    shape: [width, width],
    format: 'fp16',
    data: Uint16Array.from({ length: count }, () => 0x2800 + rng.below(0x1000)),
  }),
  'int8 per row': () => affine(8, width),
  'int4 g32': () => affine(4, 32),
  'int4 g64': () => affine(4, 64),
  'int4 g128': () => affine(4, 128),
  'NF4 b64': () => encodeTable4('nf4', matrix(random(count), width, width)),
  'table of 16 per row': () => ({
    kind: 'lut',
    shape: [width, width],
    bits: 4,
    codes: Uint8Array.from({ length: count / 2 }, () => rng.below(256)),
    tables: matrix(random(16 * width), width, 16),
    tablePer: 'row',
  }),
};
function bf16(x) {
  return new Uint32Array(Float32Array.of(x).buffer)[0] >>> 16;
}
function affine(bits, groupSize) {
  return {
    kind: 'affine',
    shape: [width, width],
    bits,
    groupSize,
    codes: Uint8Array.from({ length: (count * bits) / 8 }, () => rng.below(256)),
    scales: { block: [1, groupSize], format: 'fp32', data: random(count / groupSize) },
  };
}

for (const [label, make] of Object.entries(weights)) {
  for (const activations of label.startsWith('int') ? ['float32', 'int16', 'int8'] : ['float32']) {
    const title = activations === 'float32' ? `linear ${label}` : `linear ${label} x ${activations}`;
    if (!pattern.test(title)) continue;
    const loaded = backend.load({ weight: make() }, { activations });
    for (const tokens of [1, 4, 16, 128, 512]) {
      if (tokens === 512 && !label.startsWith('int4 g32')) continue;
      const s = backend.scope();
      const x = s.upload(matrix(random(tokens * width), tokens, width));
      await measure(
        `${title} ${width}², ${tokens} tokens`,
        2 * tokens * count,
        tokens === 1 ? loaded.bytes : 0,
        () => s.free(s.linear(x, loaded)),
        tokens === 1 ? 25 : tokens === 512 ? 3 : 5,
        activations === 'float32' ? peaks.float : peaks.integer,
      );
      s.dispose();
    }
    loaded.dispose();
  }
}

{
  const [rows, block] = [4096, 128];
  const s = backend.scope();
  const w = s.upload(matrix(random(rows * block), rows, block));
  const u = s.upload(
    matrix(
      random(block * block).map((v, i) => (i % (block + 1) ? v / 50 : 1)),
      block,
      block,
    ),
  );
  const grid = {
    scales: s.upload(matrix(new Float32Array(rows).fill(0.3), rows, 1)),
    zeroPoints: s.upload(matrix(new Float32Array(rows).fill(8), rows, 1)),
    bits: 4,
  };
  const codes = s.alloc(rows, block, 'u8');
  const errors = s.alloc(rows, block);
  const sweep = { start: 0, end: block, blockEnd: block, grid, codes, errors };
  await measure(`obsSweep ${rows} x ${block}`, rows * block * block, 0, () => s.obsSweep(w, u, sweep));
  const big = s.upload(matrix(random(2 ** 22), 2048, 2048));
  const g = {
    scales: s.upload(matrix(new Float32Array(2 ** 15).fill(0.3), 2048, 16)),
    zeroPoints: s.upload(matrix(new Float32Array(2 ** 15).fill(8), 2048, 16)),
    bits: 4,
  };
  await measure('fakeQuant 2048² g128 (weights)', 2 ** 22, 0, () => s.free(s.fakeQuant(big, g, 128)));
  await measure('glu silu 2048² (elements)', 2 ** 22, 0, () => s.free(s.glu(big, big)));
  await measure('glu gelu-tanh 2048² (elements)', 2 ** 22, 0, () => s.free(s.glu(big, big, 'gelu-tanh')));
  await measure('softmax 2048² (elements)', 2 ** 22, 0, () => s.free(s.softmax(big)));
  const q = s.upload(matrix(random(512 * 1024), 512, 1024));
  await measure('attention 512 tokens, 16 heads of 64', (4 * 512 * 513 * 1024) / 2, 0, () =>
    s.free(s.attention(q, q, q, { heads: 16, kvHeads: 16, headDim: 64 })),
  );
  const one = s.view(q, [511, 512]);
  await measure('attention 1 token, 512 keys', 4 * 512 * 1024, 0, () =>
    s.free(s.attention(one, q, q, { heads: 16, kvHeads: 16, headDim: 64, position: 511 })),
  );
  s.dispose();
}
