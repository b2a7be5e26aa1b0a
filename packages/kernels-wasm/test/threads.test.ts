import { encodeBlocks } from '@lmq/formats';
import { type Backend, type CompressedTensor, createRng, type Handle, matrix, ndarray, type Rng, type Scope } from '@lmq/tensor';
import { afterAll, describe, expect, it } from 'vitest';
import { wasmBackend } from '../src/index.js';
import { type DYING, untilLost } from './dying.js';
import { affine, random } from './layouts.js';

// The same bytes for any number of threads, for every op that shares its work out, at sizes that make several calls of it.

const upload = (s: Scope, rng: Rng, rows: number, cols: number) => s.upload(matrix(random(rng, rows * cols), rows, cols));

/** Each returns handles to compare. */
const OPS: Record<string, (s: Scope, rng: Rng) => Handle[]> = {
  gemm: (s, rng) => {
    const [a, b, bt] = [upload(s, rng, 301, 900), upload(s, rng, 900, 705), upload(s, rng, 705, 900)];
    const at = upload(s, rng, 900, 301);
    const out = upload(s, rng, 301, 705);
    s.gemm(a, b, { alpha: 0.5, beta: 2, out });
    return [s.gemm(a, b), s.gemm(a, bt, { transposeB: true }), s.gemm(at, b, { transposeA: true }), out];
  },
  syrk: (s, rng) => {
    const h = s.alloc(700, 700);
    for (let i = 0; i < 3; i++) s.syrk(h, upload(s, rng, 500, 700));
    return [h];
  },
  'cholesky, triangularInverse': (s, rng) => {
    const h = s.alloc(530, 530);
    s.syrk(h, upload(s, rng, 900, 530));
    const { factor, ok } = s.cholesky(h);
    expect(ok).toBe(true);
    return [factor, s.triangularInverse(factor)];
  },
  'select, scatterAdd, addTo': (s, rng) => {
    const a = upload(s, rng, 400, 600);
    const rows = Array.from({ length: 700 }, () => rng.below(400));
    const chosen = s.select(a, rows);
    const into = s.copy(a);
    s.scatterAdd(into, chosen, rows);
    s.addTo(into, a, -0.3);
    return [chosen, into, s.select(a, undefined, rows.slice(0, 300))];
  },
  'fakeQuant, obsSweep': (s, rng) => {
    const w = upload(s, rng, 900, 256);
    const factor = random(rng, 256 * 256).map((v, i) => (i % 257 ? v / 100 : 1)); // diagonal 1
    const u = s.upload(matrix(factor, 256, 256));
    const grid = (groups: number) => ({
      scales: s.upload(matrix(new Float32Array(900 * groups).fill(0.3), 900, groups)),
      zeroPoints: s.upload(matrix(new Float32Array(900 * groups).fill(8), 900, groups)),
      bits: 4,
    });
    const rounded = s.fakeQuant(w, grid(2), 128);
    const errors = s.alloc(900, 128);
    s.obsSweep(w, u, { start: 0, end: 128, blockEnd: 200, grid: grid(1), codes: s.alloc(900, 128, 'u8'), errors });
    const tables = upload(s, rng, 900, 16);
    const swept = s.copy(rounded);
    const codes = s.alloc(900, 128, 'u8');
    s.obsSweep(swept, u, { start: 0, end: 128, blockEnd: 200, grid: { tables, bits: 4 }, codes, errors: s.alloc(900, 128) });
    return [rounded, w, errors, swept];
  },
  'rmsNorm, softmax, glu, rope': (s, rng) => {
    const x = upload(s, rng, 333, 512);
    const tables = upload(s, rng, 400, 32);
    const turned = s.copy(x);
    s.rope(turned, tables, tables, { headDim: 64, style: 'half', position: 7 });
    return [s.rmsNorm(x, upload(s, rng, 1, 512), 1e-5), s.softmax(x), s.glu(x, turned), s.glu(x, turned, 'gelu-tanh'), turned];
  },
  attention: (s, rng) => {
    const [q, k, v] = [upload(s, rng, 300, 8 * 48), upload(s, rng, 410, 4 * 48), upload(s, rng, 410, 4 * 48)];
    const opts = { heads: 8, kvHeads: 4, headDim: 48 };
    const last = s.view(q, [297, 300]);
    return [s.attention(q, k, v, { ...opts, position: 110 }), s.attention(last, k, v, { ...opts, position: 407, window: 77 })];
  },
};

const WEIGHTS: Record<string, (rng: Rng) => CompressedTensor> = {
  fp32: (rng) => ({ kind: 'dense', shape: [610, 800], format: 'fp32', data: random(rng, 610 * 800) }),
  bf16: (rng) => ({
    kind: 'dense',
    shape: [610, 800],
    format: 'bf16',
    data: Uint16Array.from({ length: 610 * 800 }, () => 0x3c00 + rng.below(512)),
  }),
  'int4 g32, zero points': (rng) => affine(rng, 610, 800, 4, 32, { zeros: true }),
  'int8 act-order': (rng) => affine(rng, 610, 800, 8, 32, { zeros: true, order: true }),
  'int4 g5': (rng) => affine(rng, 610, 800, 4, 5, { zeros: true }),
  Q4_1: (rng) => encodeBlocks('Q4_1', matrix(random(rng, 610 * 800), 610, 800)),
  Q6_K: (rng) => encodeBlocks('Q6_K', matrix(random(rng, 610 * 768), 610, 768)),
};
for (const [label, make] of Object.entries(WEIGHTS)) {
  for (const activations of ['float32', 'int8'] as const) {
    OPS[`linear ${label} x ${activations}`] = (s, rng) => {
      const weight = make(rng);
      const loaded = s.backend.load({ weight, bias: random(rng, 610) }, { activations });
      const outputs = [1, 3, 5, 70, 290].map((tokens) => s.linear(upload(s, rng, tokens, weight.shape[1]), loaded));
      loaded.dispose();
      return outputs;
    };
  }
}
for (const input of [
  { kind: 'int8', per: 'tensor', symmetric: false },
  { kind: 'llm-int8', threshold: 3.5 },
] as const) {
  OPS[`linear int8 per row x ${input.kind} inputs`] = (s, rng) => {
    const loaded = s.backend.load({ weight: affine(rng, 610, 1100, 8, 1100), bias: random(rng, 610), input });
    const outputs = [1, 3, 70].map((tokens) => s.linear(upload(s, rng, tokens, 1100), loaded));
    loaded.dispose();
    return outputs;
  };
}

async function results(backend: Backend): Promise<Map<string, Float32Array[]>> {
  const out = new Map<string, Float32Array[]>();
  for (const [name, op] of Object.entries(OPS)) {
    const s = backend.scope();
    const handles = op(s, createRng(name.length));
    out.set(name, await Promise.all(handles.map(async (h) => (await s.read(h)).data)));
    s.dispose();
  }
  return out;
}

describe('any number of threads gives the bytes of one', async () => {
  const want = await results(await wasmBackend());
  for (const threads of [2, 5]) {
    const backend = await wasmBackend({ threads });
    afterAll(() => backend.dispose());
    expect(backend.threads).toBe(threads);
    const got = await results(backend);
    it.each(Object.keys(OPS))(`${threads} threads: %s`, (name) => {
      for (const [i, data] of got.get(name)!.entries()) {
        expect(data.some(Number.isNaN)).toBe(false);
        expect(Buffer.from(data.buffer).equals(Buffer.from(want.get(name)![i]!.buffer)), `result ${i}`).toBe(true);
      }
    });
  }
});

it('thousands of small ops in a row: the ring of calls goes round', async () => {
  const [one, four] = [await wasmBackend(), await wasmBackend({ threads: 4 })];
  const run = async (backend: Backend) => {
    const s = backend.scope();
    const x = s.upload(matrix(random(createRng(1), 128 * 300), 128, 300));
    const y = s.alloc(128, 300);
    for (let i = 0; i < 3000; i++) s.addTo(y, x, i % 2 ? 0.25 : -0.125);
    const { data } = await s.read(y);
    s.dispose();
    return data;
  };
  expect(await run(four)).toEqual(await run(one));
  four.dispose();
});

it('a Cholesky factor whose chains of calls go round the ring, of one and of three threads', async () => {
  const n = 2200;
  const run = async (threads: number) => {
    const backend = await wasmBackend({ threads });
    const s = backend.scope();
    const a = s.alloc(n, n);
    const eye = new Float32Array(n * n);
    for (let i = 0; i < n; i++) eye[i * (n + 1)] = 100;
    s.addTo(a, s.upload(matrix(eye, n, n)));
    s.syrk(a, upload(s, createRng(2), 40, n));
    const { factor, ok } = s.cholesky(a);
    const [A, L] = [(await s.read(a)).data, (await s.read(factor)).data];
    s.dispose();
    backend.dispose();
    return { ok, A, L };
  };
  const [one, three] = [await run(1), await run(3)];
  expect([one.ok, three.ok]).toEqual([true, true]);
  expect(Buffer.from(three.L.buffer).equals(Buffer.from(one.L.buffer))).toBe(true);
  const rng = createRng(3);
  for (let sample = 0; sample < 2000; sample++) {
    const i = rng.below(n);
    const j = rng.below(i + 1);
    let [sum, size] = [0, 0];
    for (let k = 0; k <= j; k++) {
      const term = one.L[i * n + k]! * one.L[j * n + k]!;
      sum += term;
      size += Math.abs(term);
    }
    // at most n additions in f32, as a random walk, and a factor of 4 to spare
    const off = Math.abs(sum - one.A[i * n + j]!);
    if (!(off <= 4 * Math.sqrt(n) * 2 ** -24 * size)) expect.fail(`L Lᵀ at ${i}, ${j}: ${sum} against ${one.A[i * n + j]}`);
    if (i !== j && one.L[j * n + i] !== 0) expect.fail(`not lower triangular at ${j}, ${i}`);
  }
});

it('works on after dispose, on the calling thread', async () => {
  const backend = await wasmBackend({ threads: 2 });
  backend.dispose();
  backend.dispose();
  const s = backend.scope();
  const x = s.upload(ndarray(new Float32Array(400 * 400).fill(1), [400, 400]));
  expect((await s.read(s.gemm(x, x))).data.every((v) => v === 400)).toBe(true);
});

it('memory grows under the workers', async () => {
  const backend = await wasmBackend({ threads: 3 });
  const s = backend.scope();
  for (let i = 1; i <= 6; i++) {
    const x = s.upload(ndarray(new Float32Array(600 * 600 * i).fill(1), [600 * i, 600]));
    expect((await s.read(s.gemm(x, x, { transposeB: true }))).data.every((v) => v === 600)).toBe(true);
  }
  backend.dispose();
});

it('a worker that cannot start is said, and none is left behind', async () => {
  let ended = 0;
  const broken = () => {
    const worker = { onerror: null as Worker['onerror'], onmessage: null, postMessage() {}, terminate: () => void ended++ };
    queueMicrotask(() => worker.onerror?.call(worker as unknown as Worker, { message: 'refused' } as ErrorEvent));
    return worker as unknown as Worker;
  };
  await expect(wasmBackend({ threads: 3, worker: broken })).rejects.toThrow(/could not start.*refused/s);
  expect(ended).toBe(2);
});

it.each<[keyof typeof DYING, RegExp]>([
  ['in a call', /did not finish its call/],
  ['between calls', /exit code 7/],
  ['of an error', /no more/],
])('a worker that dies %s is said, at once and from then on', async (how, why) => {
  const errors = await untilLost(how);
  expect(errors).toEqual([expect.stringMatching(why), expect.stringMatching(why)]);
  for (const e of errors) expect(e).toMatch(/^backend\/lost: wasm: a worker thread died/);
});

it.each([0, 1.5, 257, Number.NaN])('threads: %d is refused', async (threads) => {
  await expect(wasmBackend({ threads })).rejects.toMatchObject({ code: 'argument/option' });
});
