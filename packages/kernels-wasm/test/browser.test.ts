// Threads in headless Chromium: on a page's main thread and in a worker, with workers from a blob: URL and of the page's own, where memory can be
// shared; one thread where it cannot; the same bytes everywhere; nothing blocked by a policy that allows no code from strings.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { createRng, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { bodyOf, chromium, skipped, visit } from '../../../tools/test/_chromium.js';
import { wasmBackend } from '../src/index.js';
import { random } from './layouts.js';

/** Runs in the page and in its worker: numbers of threads asked for → threads there are and a digest of a product. */
const WORK = `
import { wasmBackend } from '@lmq/kernels-wasm';
import { createRng, matrix } from '@lmq/tensor';
const random = (rng, n) => Float32Array.from({ length: n }, () => rng.normal());
export async function work(opts) {
  const backend = await wasmBackend({ kernel: 'simd128', ...opts });
  const s = backend.scope();
  const a = s.upload(matrix(random(createRng(3), 700 * 300), 700, 300));
  const { data } = await s.read(s.gemm(a, a, { transposeB: true }));
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', data));
  s.dispose();
  backend.dispose();
  return [backend.threads, Array.from(digest, (b) => b.toString(16).padStart(2, '0')).join('')];
}
export const own = () => new Worker(new URL('./thread.mjs', import.meta.url), { type: 'module' });
`;
const FILES: Record<string, string> = {
  'work.mjs': WORK,
  'dying.mjs': `
import { untilLost } from ${JSON.stringify(fileURLToPath(new URL('dying.ts', import.meta.url)))};
await fetch('/result', { method: 'POST', body: JSON.stringify({ isolated: crossOriginIsolated, lost: await untilLost('in a call') }) });
`,
  'thread.mjs': "import '@lmq/kernels-wasm/worker';",
  'worker.mjs':
    "import { work, own } from './work.mjs'; onmessage = async () => postMessage([await work({ threads: 3 }), await work({ threads: 2, worker: own })]);",
  'page.mjs': `
import { own, work } from './work.mjs';
const results = { isolated: crossOriginIsolated };
try {
  results.page = [await work({ threads: 3 }), await work({ threads: 2, worker: own }), await work({})];
  const worker = new Worker(new URL('./worker.mjs', import.meta.url), { type: 'module' });
  results.worker = await new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (e) => reject(new Error(e.message));
    worker.postMessage('go');
  });
} catch (e) {
  results.error = e.code + ': ' + e.message;
}
await fetch('/result', { method: 'POST', body: JSON.stringify(results) });
`,
};

type Run = [threads: number, digest: string];

async function bundle(): Promise<Map<string, string>> {
  const { build } = createRequire(createRequire(new URL('../../../', import.meta.url)).resolve('tsup'))('esbuild'); // the one tsup builds with
  const here = fileURLToPath(new URL('.', import.meta.url));
  const virtual = {
    name: 'virtual',
    // biome-ignore lint/suspicious/noExplicitAny: esbuild's plugin API, without its types
    setup(b: any) {
      b.onResolve({ filter: /^(\.\/)?\w+\.mjs$/ }, ({ path }: { path: string }) => ({
        path: path.replace('./', ''),
        namespace: 'virtual',
      }));
      b.onLoad({ filter: /.*/, namespace: 'virtual' }, ({ path }: { path: string }) => ({ contents: FILES[path], resolveDir: here }));
    },
  };
  const { outputFiles } = await build({
    entryPoints: ['page.mjs', 'worker.mjs', 'thread.mjs', 'dying.mjs'],
    plugins: [virtual],
    conditions: ['lmq-src'],
    bundle: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    outdir: here,
    outExtension: { '.js': '.mjs' },
    write: false,
    logLevel: 'error',
  });
  return new Map(outputFiles.map((f: { path: string; text: string }) => [f.path.slice(here.length - 1), f.text]));
}

interface Results {
  isolated: boolean;
  page?: Run[];
  worker?: Run[];
  error?: string;
  lost?: string[];
}

async function resultsOf(isolated: boolean, blobs: boolean, page = 'page.mjs'): Promise<Results> {
  const files = await bundle();
  const headers = {
    'Content-Security-Policy': `default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'${blobs ? ' blob:' : ''}`,
    ...(isolated && { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }),
  };
  let done: (results: never) => void = () => {};
  const results = new Promise<never>((resolve) => {
    done = resolve;
  });
  const server = createServer(async (request, response) => {
    const path = request.url!;
    if (path === '/result') done(JSON.parse(await bodyOf(request)) as never);
    const script = files.get(path);
    const type = script === undefined ? 'text/html' : 'text/javascript';
    response
      .writeHead(200, { ...headers, 'Content-Type': type })
      .end(script ?? `<!doctype html><script type="module" src="/${page}"></script>`);
  });
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
  try {
    return await visit(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, results);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe.skipIf(!chromium)(`threads in a browser${skipped}`, async () => {
  const backend = await wasmBackend({ kernel: 'simd128' });
  const s = backend.scope();
  const a = s.upload(matrix(random(createRng(3), 700 * 300), 700, 300));
  const { data } = await s.read(s.gemm(a, a, { transposeB: true }));
  const digest = Buffer.from(await crypto.subtle.digest('SHA-256', data as Float32Array<ArrayBuffer>)).toString('hex');

  it('a cross-origin isolated page has them, and so has its worker', async () => {
    expect(await resultsOf(true, true)).toEqual({
      isolated: true,
      page: [
        [3, digest],
        [2, digest],
        [1, digest],
      ],
      worker: [
        [3, digest],
        [2, digest],
      ],
    });
  });
  it('another page has one', async () => {
    expect(await resultsOf(false, false)).toEqual({
      isolated: false,
      page: [
        [1, digest],
        [1, digest],
        [1, digest],
      ],
      worker: [
        [1, digest],
        [1, digest],
      ],
    });
  });
  it('a worker that dies in the middle of a call is said on the main thread, which may not wait', async () => {
    const lost = expect.stringMatching(/^backend\/lost: .*did not finish its call/);
    expect(await resultsOf(true, true, 'dying.mjs')).toEqual({ isolated: true, lost: [lost, lost] });
  });
  it('a policy without blob: is said, not passed over', async () => {
    const { error } = await resultsOf(true, false);
    expect(error).toMatch(/^backend\/unsupported: .*blobs, or pass worker/);
  });
});
