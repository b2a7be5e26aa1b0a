import { defineBackend } from '@lmq/tensor';
import { createCore } from '../src/_wasm/core.js';
import { createKernels } from '../src/_wasm/kernels.js';
import { createMemory } from '../src/_wasm/memory.js';
import { instantiate } from '../src/_wasm/module.js';
import { startThreads, workerOfText } from '../src/_wasm/threads.js';
import { WASM_SIMD128 } from '../src/generated/simd128.js';

const BEGIN = `
const node = globalThis.process?.getBuiltinModule?.('node:worker_threads');
const port = node?.parentPort ?? globalThis;
const die = () => (node ? process.exit(7) : close());
port.onmessage = ({ data }) => {
  port.postMessage('ready');
`;

/** Texts of workers that begin well and end badly, in Node and in browsers. */
export const DYING = {
  /** Takes a call, as serve.ts does, and dies with it. */
  'in a call': `${BEGIN}
  const state = new Int32Array(data.state);
  for (;;) {
    const next = Atomics.load(state, 0);
    if (next !== Atomics.load(state, 1) && Atomics.compareExchange(state, 0, next, next + 1) === next) return die();
  }
};`,
  'between calls': `${BEGIN} setTimeout(die, 20); };`,
  'of an error': `${BEGIN} setTimeout(() => { throw new Error('no more'); }, 20); };`,
};

/** A backend of two threads, one of them such a worker. Nobody waits longer than 30 times 10 ms. */
export async function dyingBackend(how: keyof typeof DYING) {
  const memory = createMemory(undefined, undefined, true);
  const { wasm, module } = await instantiate(WASM_SIMD128, memory.memory, true);
  const pool = await startThreads(2, wasm, module, memory.memory, () => workerOfText(DYING[how]), 10);
  return defineBackend(createKernels(createCore(wasm, memory, pool), 'wasm-simd128', pool.dispose));
}

/** Multiplies until that throws, and once more: both errors. */
export async function untilLost(how: keyof typeof DYING): Promise<string[]> {
  const backend = await dyingBackend(how);
  const s = backend.scope();
  const a = s.alloc(300, 300);
  const errors: string[] = [];
  for (let i = 0; i < 2000 && errors.length < 2; i++) {
    try {
      s.free(s.gemm(a, a));
      await new Promise((resolve) => setTimeout(resolve, 1)); // events are delivered
    } catch (e) {
      errors.push(`${(e as { code: string }).code}: ${(e as Error).message}`);
    }
  }
  backend.dispose();
  return errors;
}
