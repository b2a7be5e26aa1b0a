// What kernels.mjs and the page measure, beside each other: the cases, the check that all engines computed the same, and the lines printed.
import { ceiling } from '../../packages/kernels-wasm/bench/ceiling.mjs';
import { createRng } from '../../packages/tensor/dist/index.js';
import { clocks, inTurns, summary, time } from './_time.mjs';

const ROUNDS = 7;
const GROUP = 32;
/** Inputs of W8A8 (onnxruntime-web's is the first) and of LLM.int8(), whose threshold six planted columns reach. */
const INPUTS = {
  'int8 per tensor, asymmetric': { kind: 'int8', per: 'tensor', symmetric: false },
  'int8 per token, symmetric': { kind: 'int8', per: 'token', symmetric: true },
  'LLM.int8()': { kind: 'llm-int8', threshold: 5.2 },
};

/** Largest difference from the first engine's result, as a part of its largest value. */
const TOLERANCE = { float32: 1e-4, int16: 1e-3, int8: 0.03 };

/**
 * Runs the cases whose title matches `pattern`.
 * @param engines lmq first
 * @param print receives each line
 */
export async function runCases(engines, { pattern = '', rounds = ROUNDS, print }) {
  const [lmq] = engines;
  const wanted = new RegExp(pattern);
  const rng = createRng(1);
  const random = (n) => Float32Array.from({ length: n }, () => rng.normal());
  const float = await ceiling(lmq.variant === 'wasm-relaxed' ? 'relaxed' : 'simd128');
  const integer = await ceiling('dot');
  const floatName = `ceiling of ${lmq.variant === 'wasm-relaxed' ? 'relaxed madd' : 'mul + add'}`;

  // Many short calls: engines start on slow code, and one long call gives them no occasion to replace it (minutes of a tenth of the speed).
  for (const e of engines) {
    const n = 256;
    const short = [await e.gemm(random(n * n), n, n)];
    for (const activations of e.nbits ? ['float32', 'int16', 'int8'] : []) {
      const codes = Uint8Array.from({ length: (n * n) / 2 }, () => rng.below(256));
      short.push(await e.nbits(codes, random((n * n) / GROUP), n, n, GROUP, activations));
    }
    for (const input of e.int8 ? Object.values(INPUTS) : []) {
      const codes = Int8Array.from({ length: n * n }, () => rng.below(255) - 127);
      if (e === lmq || input === INPUTS['int8 per tensor, asymmetric']) short.push(await e.int8(codes, random(n), n, n, input));
    }
    for (const loaded of short) {
      for (const tokens of [1, 64]) {
        const x = random(tokens * n);
        for (const end = performance.now() + 1e3; performance.now() < end; ) {
          for (let i = 0; i < 20; i++) await loaded.run(x, tokens);
          await new Promise((resolve) => setTimeout(resolve)); // the replacing happens between tasks
        }
      }
      await loaded.dispose();
    }
  }

  /** Loads into every engine, checks that they agree, times them and the ceilings in turns, prints. */
  async function measure(title, operations, contenders, call, reference) {
    const loads = [];
    const turns = [];
    for (const { name, load, tolerance = TOLERANCE.float32, ceiling } of contenders) {
      let loaded;
      const took = await time(async () => {
        loaded = await load();
      });
      loads.push({ name, loaded, ms: took.wall * 1e3 });
      const result = await call.result(loaded);
      reference ??= result.slice();
      compare(`${title}: ${name}`, result, reference, tolerance);
      turns.push({ name, operations, run: () => call.run(loaded), ceiling });
    }
    const peaks = [{ name: floatName, operations: 0, peak: float }];
    if (contenders.some((c) => c.ceiling === 'integer')) peaks.push({ name: 'ceiling of 16-bit dot + add', operations: 0, peak: integer });
    for (const p of peaks) {
      p.run = () => {
        p.operations = p.peak();
      };
    }
    const all = [...turns, ...peaks];
    const times = await inTurns(all, rounds);
    const [clock] = clocks();
    const rows = all.map((t, k) => {
      const by = Object.fromEntries(clocks().map((c) => [c, summary(times[k], c)]));
      return { ...t, by, rate: t.operations / by[clock].best / 1e9 };
    });
    const top = { float: rows[turns.length].rate, integer: rows[turns.length + 1]?.rate };
    const heads = clocks().map((c) => `${c} ms, median (best)`.padStart(24));
    print(`\n${title}`);
    print(`  ${'engine'.padEnd(32)}${heads.join('')}  G/s best  time of lmq's`);
    for (const [k, { name, by, rate, ceiling }] of rows.entries()) {
      const ms = clocks().map((c) => `${(by[c].median * 1e3).toFixed(2)} (${(by[c].best * 1e3).toFixed(2)})`.padStart(24));
      const ratio = k < turns.length ? `${(by[clock].best / rows[0].by[clock].best).toFixed(2)} x` : '';
      const share = ceiling ? `${Math.round((100 * rate) / top[ceiling])} % of ${top[ceiling].toFixed(1)}` : '';
      print(`  ${name.padEnd(32)}${ms.join('')}${rate.toFixed(1).padStart(10)}${ratio.padStart(15)}   ${share}`.trimEnd());
    }
    print(`  load, ms: ${loads.map((l) => `${l.name} ${l.ms.toFixed(0)}`).join(', ')}`);
    for (const l of loads) await l.loaded.dispose();
  }

  for (const n of [2048, 4096]) {
    for (const tokens of [128, 512]) {
      const title = `f32 GEMM, ${tokens} tokens x ${n}²`;
      if (!wanted.test(title)) continue;
      const w = random(n * n);
      const x = random(tokens * n);
      const run = (loaded) => loaded.run(x, tokens);
      const contenders = engines.map((e) => ({
        name: e.name,
        load: () => e.gemm(w, n, n),
        ...(e === lmq && { ceiling: 'float' }),
      }));
      await measure(title, 2 * tokens * n * n, contenders, { run, result: run });
    }
  }

  for (const tokens of [1, 128]) {
    const n = 4096;
    const title = `4-bit, group ${GROUP}, ${tokens} token${tokens > 1 ? 's' : ''} x ${n}²`;
    if (!wanted.test(title)) continue;
    const codes = Uint8Array.from({ length: (n * n) / 2 }, () => rng.below(256));
    const scales = Float32Array.from({ length: (n * n) / GROUP }, () => 0.01 + 0.01 * rng.below(100));
    const x = random(tokens * n);
    const run = (loaded) => loaded.run(x, tokens);
    const contenders = engines
      .filter((e) => e.nbits)
      .flatMap((e) => {
        if (e !== lmq) return { name: e.name, load: () => e.nbits(codes, scales, n, n, GROUP), tolerance: TOLERANCE.int8 };
        return ['float32', 'int16', 'int8'].map((activations) => ({
          name: `${e.name}, ${activations} inputs`,
          load: () => e.nbits(codes, scales, n, n, GROUP, activations),
          tolerance: TOLERANCE[activations],
          ceiling: activations === 'float32' ? 'float' : 'integer',
        }));
      });
    await measure(title, 2 * tokens * n * n, contenders, { run, result: run });
  }

  for (const tokens of [1, 8, 128]) {
    const n = 4096;
    const title = `W8A8, ${tokens} token${tokens > 1 ? 's' : ''} x ${n}²`;
    if (!wanted.test(title)) continue;
    const codes = Int8Array.from({ length: n * n }, () => rng.below(255) - 127);
    const scales = Float32Array.from({ length: n }, () => 0.001 + 0.0001 * rng.below(100));
    const x = random(tokens * n);
    for (let i = 0; i < 6; i++) x[700 * i] = 5.3;
    const run = (loaded) => loaded.run(x, tokens);
    const contenders = engines
      .filter((e) => e.int8)
      .flatMap((e) => {
        if (e !== lmq) return { name: e.name, load: () => e.int8(codes, scales, n, n), tolerance: TOLERANCE.int8 };
        return Object.entries(INPUTS).map(([name, input]) => ({
          name: `${e.name}, ${name}`,
          load: () => e.int8(codes, scales, n, n, input),
          tolerance: TOLERANCE.int8,
          ceiling: 'integer',
        }));
      });
    await measure(title, 2 * tokens * n * n, contenders, { run, result: run });
  }

  const inMemory = { run: (loaded) => loaded.run(), result: (loaded) => loaded.result() };
  const owners = (load) =>
    engines.filter((e) => e.gram).map((e) => ({ name: e.name, load: () => load(e), ...(e === lmq && { ceiling: 'float' }) }));
  for (const n of [1024, 4096]) {
    const tokens = 2048;
    const title = `X^T X, ${tokens} x ${n}, counted as tokens n²`;
    if (!wanted.test(title)) continue;
    const x = random(tokens * n);
    await measure(
      title,
      tokens * n * n,
      owners((e) => e.gram(x, tokens, n)),
      inMemory,
    );
  }
  {
    const n = 2048;
    const title = `Cholesky ${n}, counted as n³ / 3`;
    if (!wanted.test(title)) return;
    const x = random(2 * n * n);
    const h = lmq.gram(x, 2 * n, n);
    const a = (await h.result()).slice();
    h.dispose();
    await measure(
      title,
      n ** 3 / 3,
      owners((e) => e.cholesky(a, n)),
      inMemory,
    );
  }
}

/** @throws when a result is not the reference's within `tolerance` of its largest value */
function compare(what, result, reference, tolerance) {
  if (result.length !== reference.length) throw new Error(`${what}: ${result.length} numbers instead of ${reference.length}`);
  let largest = 0;
  let worst = 0;
  for (let i = 0; i < reference.length; i++) {
    largest = Math.max(largest, Math.abs(reference[i]));
    const d = Math.abs(result[i] - reference[i]);
    if (!(d <= worst)) worst = d;
  }
  if (!(worst <= tolerance * largest)) throw new Error(`${what}: differs by ${worst}, the largest value being ${largest}`);
}
