// What each package weighs on a page: its main entry as built, bundled and minified, gzipped. Its lmq dependencies are left out, its third-party
// ones are in. WebAssembly (base64 inside the script) and data files are counted apart, in bytes as they are (all binaries, though one runs). Over the budgets of
// size-budgets.json: exit code 1. Also prints each package with all that it needs, for orientation.
// `--set` writes new budgets: today's sizes and 15 % more. Say in the commit why a package grew.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { packages, root } from './shared.mjs';

const { build } = createRequire(createRequire(import.meta.url).resolve('tsup'))('esbuild'); // the bundler that tsup builds with
const budgetFile = join(root, 'tools', 'size-budgets.json');
const { note, packages: old } = JSON.parse(readFileSync(budgetFile, 'utf8'));
const set = process.argv.includes('--set');
const budgets = set ? {} : old;
const CODE = ['dist', 'src', 'bin', 'README.md'];

async function bundle(dir, external) {
  const { outputFiles } = await build({
    entryPoints: [join(dir, 'dist', 'index.js')],
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'node', // only so that node:* stays an import
    mainFields: ['module', 'main'],
    target: 'es2022',
    write: false,
    logLevel: 'error',
    external,
  });
  return outputFiles[0].text;
}

/** Takes inlined WebAssembly modules out of a script. */
function splitWasm(script) {
  let bytes = 0;
  const code = script.replace(/(["'`])(AGFzbQ[A-Za-z0-9+/]+=*)\1/g, (_, quote, base64) => {
    bytes += Buffer.from(base64, 'base64').length;
    return quote + quote;
  });
  return { code, bytes };
}

function bytesIn(path) {
  if (!statSync(path).isDirectory()) return statSync(path).size;
  return readdirSync(path).reduce((sum, name) => sum + bytesIn(join(path, name)), 0);
}

/** 15 % more, rounded up to two figures. */
function roomFor(bytes) {
  const step = 10 ** Math.max(0, Math.floor(Math.log10(bytes * 1.15 || 1)) - 1);
  return Math.ceil((bytes * 1.15) / step) * step;
}

const kB = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;
const gzip = (text) => gzipSync(text, { level: 9 }).length;
const rows = [['package', 'minified', 'gzip', 'budget', 'wasm', 'data', 'all it needs, gzip']];
const problems = [];

for (const { dir, folder, manifest } of packages()) {
  if (!existsSync(join(dir, 'dist', 'index.js'))) throw new Error(`packages/${folder} is not built: npm run build`);
  const own = splitWasm(await bundle(dir, ['@lmq/*', 'lmq']));
  const all = splitWasm(await bundle(dir, []));
  const data = manifest.files.filter((f) => !CODE.includes(f)).reduce((sum, f) => sum + bytesIn(join(dir, f)), 0);
  const found = { gzip: gzip(own.code), wasm: own.bytes, data };
  if (set) budgets[folder] = Object.fromEntries(Object.entries(found).map(([what, bytes]) => [what, roomFor(bytes)]));
  const budget = budgets[folder];
  if (!budget) problems.push(`${folder} has no budget in tools/size-budgets.json`);
  for (const [what, bytes] of Object.entries(found)) {
    if (budget && bytes > (budget[what] ?? 0)) problems.push(`${folder}: ${bytes} bytes of ${what}, budget ${budget[what] ?? 0}`);
  }
  const apart = (n) => (n ? kB(n) : '');
  rows.push([
    manifest.name,
    kB(own.code.length),
    kB(found.gzip),
    kB(budget?.gzip ?? 0),
    apart(found.wasm),
    apart(data),
    kB(gzip(all.code) + all.bytes),
  ]);
}

if (set) writeFileSync(budgetFile, `${JSON.stringify({ note, packages: budgets }, null, 2)}\n`);
const widths = rows[0].map((_, i) => Math.max(...rows.map((r) => r[i].length)));
for (const row of rows) console.log(row.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  '));
for (const problem of problems) console.error(problem);
process.exitCode = problems.length ? 1 : 0;
