// Kernels and tokens per second in one run of headless Chromium, one thread: lmq beside onnxruntime-web, tfjs-wasm, jax-js and wllama.
// Build lmq first, then, in peers/bench: npm install --ignore-scripts && node browser/run.mjs [pattern of kernels] [rounds]
// A pattern that matches no kernel: tokens only. Needs a Chromium: CHROMIUM, or /usr/bin/chromium.
import { createReadStream, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { cpus, loadavg } from 'node:os';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { llama271M, smolLM2 } from '../_models.mjs';

const { build } = createRequire(createRequire(new URL('../../../', import.meta.url)).resolve('tsup'))('esbuild'); // the one tsup builds with
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { dependencies } = JSON.parse(readFileSync(here('../package.json'), 'utf8'));

const [pattern = '', rounds = '7'] = process.argv.slice(2);
const models = { '/smollm2-135m-q4_1.gguf': smolLM2(), '/llama-271m-q4_0.gguf': await llama271M() };
const folders = {
  '/ort/': here('../node_modules/onnxruntime-web/dist/'),
  '/tfjs/': here('../node_modules/@tensorflow/tfjs-backend-wasm/dist/'),
  '/wllama/': here('../node_modules/@wllama/wllama/esm/'),
};
const {
  outputFiles: [script],
} = await build({
  entryPoints: [here('worker.mjs')],
  bundle: true,
  format: 'esm',
  target: 'es2022',
  alias: { 'onnxruntime-web': 'onnxruntime-web/wasm' }, // the other entries also carry its GPU code
  external: ['fs', 'module', 'path', 'url', 'node:*'], // the AssemblyScript compiler imports them in Node only
  write: false,
  logLevel: 'error',
});
const pages = {
  '/': ['text/html', '<!doctype html><title>lmq bench</title><link rel="icon" href="data:,">'],
  '/worker.mjs': ['text/javascript', script.contents],
};
const types = { '.mjs': 'text/javascript', '.wasm': 'application/wasm' };

let renderers = []; // process ids
/** CPU time of the browser's page processes, which a page cannot ask for: the sum over their threads. 0 where the system has no /proc. */
function cpuSeconds() {
  let nanoseconds = 0;
  try {
    for (const id of renderers) {
      for (const task of readdirSync(`/proc/${id}/task`)) {
        nanoseconds += Number(readFileSync(`/proc/${id}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
      }
    }
  } catch {
    return 0;
  }
  return nanoseconds / 1e9;
}

/** Files, and ranges of files. Without the headers of cross-origin isolation: no shared memory, so nobody has threads. */
const server = createServer(({ url, headers }, response) => {
  const { pathname } = new URL(url, 'http://localhost');
  if (pages[pathname]) {
    const [type, body] = pages[pathname];
    response.writeHead(200, { 'Content-Type': type }).end(body);
    return;
  }
  if (pathname === '/cpu') {
    response.end(String(cpuSeconds()));
    return;
  }
  const folder = Object.keys(folders).find((f) => pathname.startsWith(f));
  const file = models[pathname] ?? (folder && folders[folder] + pathname.slice(folder.length));
  const size = file && statSync(file, { throwIfNoEntry: false })?.size;
  if (size === undefined) {
    response.writeHead(404).end();
    return;
  }
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
  const [start, end] = first ? [Number(first), Math.min(Number(last), size - 1)] : [0, size - 1];
  response.writeHead(first ? 206 : 200, {
    'Content-Type': types[extname(file)] ?? 'application/octet-stream',
    'Content-Length': end - start + 1,
    ...(first && { 'Content-Range': `bytes ${start}-${end}/${size}` }),
  });
  createReadStream(file, { start, end }).pipe(response);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--no-proxy-server',
    '--disable-quic',
    '--disable-background-networking',
    '--disable-component-update',
  ],
});
try {
  const load = () => `load of the machine ${loadavg()[0].toFixed(1)}`;
  console.log(`${cpus().length} x ${cpus()[0].model}, Chromium ${browser.version()}, ${new Date().toISOString()}, ${load()}`);
  const page = await browser.newPage();
  page.on('console', (m) => m.type() === 'error' && console.error(m.text()));
  await page.exposeFunction('print', console.log);
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const { processInfo } = await (await browser.newBrowserCDPSession()).send('SystemInfo.getProcessInfo');
  renderers = processInfo.filter((p) => p.type === 'renderer').map((p) => p.id);
  await page.evaluate(
    (job) =>
      new Promise((resolve, reject) => {
        const worker = new Worker('/worker.mjs', { type: 'module', name: JSON.stringify(job) });
        worker.onmessage = ({ data }) => {
          if (data.line !== undefined) window.print(data.line);
          else if (data.error) reject(new Error(data.error));
          else resolve();
        };
        worker.onerror = (e) => reject(new Error(e.message ?? 'the worker did not start'));
      }),
    { pattern, rounds: Number(rounds), models: Object.keys(models), versions: dependencies },
  );
  console.log(`\n${load()}`);
} finally {
  await browser.close();
  server.close();
}
