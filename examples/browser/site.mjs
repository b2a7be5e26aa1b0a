// The files of the page as a server sends them. The scripts are bundled, because workers know no import maps and ndarray is CommonJS.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';

const { build } = createRequire(createRequire(new URL('../../', import.meta.url)).resolve('tsup'))('esbuild'); // the one tsup builds with
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

/** Path → type and text of every file. */
export async function buildSite() {
  const { outputFiles } = await build({
    entryPoints: [here('main.mjs'), here('worker.mjs')],
    bundle: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    outdir: here('.'),
    outExtension: { '.js': '.mjs' },
    write: false,
    logLevel: 'error',
  });
  const files = new Map(outputFiles.map((f) => [`/${basename(f.path)}`, { type: 'text/javascript', text: f.text }]));
  files.set('/', { type: 'text/html; charset=utf-8', text: readFileSync(here('index.html'), 'utf8') });
  files.set('/style.css', { type: 'text/css', text: readFileSync(here('style.css'), 'utf8') });
  return files;
}

/** Headers of every response: only code of this server, none from strings; WebAssembly may be compiled. */
export function headers(isolated) {
  return {
    'Content-Security-Policy': "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'",
    ...(isolated && { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }),
  };
}
