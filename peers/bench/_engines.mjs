// The engines under one interface, on one thread, in Node and in a page. Each loads a weight once and then multiplies inputs with it:
// from a Float32Array in JavaScript to one in JavaScript, because onnxruntime-web can do no less.
import * as jax from '@jax-js/jax';
import * as tfWasm from '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-web';
import { wasmBackend } from '../../packages/kernels-wasm/dist/index.js';
import { matrix } from '../../packages/tensor/dist/index.js';
import { dynamicQuantizeModel, gemmModel, matMulNBitsModel } from './_onnx.mjs';

/** lmq. `activations`: how inputs meet the codes of a 4-bit weight; `input`: how they are quantized for one of 8 bits per row. */
export async function lmqEngine() {
  const backend = await wasmBackend({ threads: 1 });
  const loaded = (weight, activations, input) => {
    const w = backend.load({ weight, ...(input && { input }) }, { activations });
    return {
      async run(x, rows) {
        const s = backend.scope();
        const y = await s.read(s.linear(s.upload(matrix(x, rows, w.in)), w));
        s.dispose();
        return y.data;
      },
      dispose: () => w.dispose(),
    };
  };
  return {
    name: `lmq ${backend.variant}`,
    variant: backend.variant,
    gemm: (w, rows, cols) => loaded({ kind: 'dense', shape: [rows, cols], format: 'fp32', data: w }),
    nbits: (codes, scales, rows, cols, group, activations) =>
      loaded(
        {
          kind: 'affine',
          shape: [rows, cols],
          bits: 4,
          groupSize: group,
          codes,
          scales: { block: [1, group], format: 'fp32', data: scales },
        },
        activations,
      ),
    int8: (codes, scales, rows, cols, input) =>
      loaded(
        {
          kind: 'affine',
          shape: [rows, cols],
          bits: 8,
          groupSize: cols,
          codes: Uint8Array.from(codes, (q) => q + 128),
          scales: { block: [1, cols], format: 'fp32', data: scales },
        },
        'float32',
        input,
      ),
    gram(x, tokens, n) {
      const s = backend.scope();
      const input = s.upload(matrix(x, tokens, n));
      const h = s.alloc(n, n);
      const run = () => s.syrk(h, input);
      return {
        run,
        async result() {
          run();
          return (await s.read(h)).data;
        },
        dispose: () => s.dispose(),
      };
    },
    cholesky(a, n) {
      const s = backend.scope();
      const input = s.upload(matrix(a, n, n));
      return {
        run: () => s.free(s.cholesky(input).factor),
        result: async () => (await s.read(s.cholesky(input).factor)).data,
        dispose: () => s.dispose(),
      };
    },
  };
}

/** onnxruntime-web. `wasmPaths`: where a page finds its files; Node finds them itself. */
export async function ortEngine(wasmPaths) {
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = 'error';
  if (wasmPaths) ort.env.wasm.wasmPaths = wasmPaths;
  const loaded = async (model, cols) => {
    const session = await ort.InferenceSession.create(model, { executionProviders: ['wasm'] });
    return {
      run: async (x, rows) => (await session.run({ x: new ort.Tensor('float32', x, [rows, cols]) })).y.data,
      dispose: () => session.release(),
    };
  };
  return {
    name: `onnxruntime-web ${ort.env.versions.web}`,
    gemm: (w, rows, cols) => loaded(gemmModel(w, rows, cols), cols),
    nbits: (codes, scales, rows, cols, group) => loaded(matMulNBitsModel(codes, scales, rows, cols, group), cols),
    int8: (codes, scales, rows, cols) => loaded(dynamicQuantizeModel(codes, scales, rows, cols), cols),
  };
}

/** tfjs on its wasm backend. `wasmPaths`: as above. */
export async function tfEngine(wasmPaths) {
  if (wasmPaths) tfWasm.setWasmPaths(wasmPaths);
  await tf.setBackend('wasm');
  return {
    name: `tfjs-wasm ${tf.version_core}`,
    gemm(w, rows, cols) {
      const weight = tf.tidy(() => tf.transpose(tf.tensor2d(w, [rows, cols]))); // [cols, rows] is what it multiplies fastest with
      return {
        run(x, m) {
          const y = tf.tidy(() => tf.matMul(tf.tensor2d(x, [m, cols]), weight));
          const data = y.dataSync();
          y.dispose();
          return data;
        },
        dispose: () => weight.dispose(),
      };
    },
  };
}

/** jax-js on wasm. It counts references: an array is used up by what it is given to, `.ref` keeps it. */
export async function jaxEngine(version) {
  if (globalThis.process) {
    globalThis.navigator ??= {}; // it asks what the browser offers; Node 20 has none
    // it takes threads where there is a global Worker, which onnxruntime-web makes in Node
    Object.defineProperty(globalThis, 'Worker', { get() {}, set() {} });
  }
  await jax.init('wasm');
  jax.defaultDevice('wasm');
  const { numpy: np, lax, jit } = jax;
  const linear = jit((x, w) => np.matmul(x, w.transpose()));
  const gram = jit((x) => np.matmul(x.ref.transpose(), x));
  const inMemory = (data, shape, f) => {
    const input = np.array(data, { shape });
    return {
      async run() {
        const y = f(input.ref);
        await y.blockUntilReady();
        y.dispose();
      },
      result: () => f(input.ref).data(),
      dispose: () => input.dispose(),
    };
  };
  return {
    name: `jax-js ${version}`,
    gemm(w, rows, cols) {
      const weight = np.array(w, { shape: [rows, cols] });
      return { run: (x, m) => linear(np.array(x, { shape: [m, cols] }), weight.ref).data(), dispose: () => weight.dispose() };
    },
    gram: (x, tokens, n) => inMemory(x, [tokens, n], gram),
    cholesky: (a, n) => inMemory(a, [n, n], lax.linalg.cholesky),
  };
}
