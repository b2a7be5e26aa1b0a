/**
 * The worker thread of `wasmBackend({ threads })` as a module of its own, for pages whose content-security policy does not let a worker come
 * from a blob: `wasmBackend({ threads: 4, worker: () => new Worker(new URL('@lmq/kernels-wasm/worker', import.meta.url), { type: 'module' }) })`.
 * @module
 */
import { serve } from './_wasm/serve.js';

serve();
