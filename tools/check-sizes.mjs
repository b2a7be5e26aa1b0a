// What each package weighs on a page: its main entry as built, bundled and minified, gzipped. Its lmq dependencies are left out, its third-party
// ones are in. WebAssembly (base64 inside the script) and data files are counted apart, in bytes as they are (all binaries, though one runs). Over the budgets of
// size-budgets.json: exit code 1. Also prints each package with all that it needs, for orientation.
// Then what small programs load from a page, everything counted: at once, and later where they ask for it. Bundlers differ: esbuild, which splits
// between files, also makes chunks of what a program never asks for; it counts as later.
// `--set` writes new budgets: today's sizes and 15 % more. Say in the commit why a package grew.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';
import { packages, root } from './shared.mjs';

const { build } = createRequire(createRequire(import.meta.url).resolve('tsup'))('esbuild'); // the bundler that tsup builds with
const budgetFile = join(root, 'tools', 'size-budgets.json');
const { note, packages: old, programs: oldPrograms } = JSON.parse(readFileSync(budgetFile, 'utf8'));
const set = process.argv.includes('--set');
const budgets = set ? {} : old;
const programBudgets = set ? {} : oldPrograms;
/** What people import to do one thing. */
const PROGRAMS = [
  "export { decode } from '@lmq/formats'",
  "export { rtn } from '@lmq/quant-core'",
  "export { gptq } from '@lmq/gptq'",
  "export { openSafetensors, urlSource } from '@lmq/checkpoints'",
  "export { openGguf, urlSource } from '@lmq/checkpoints'",
  "export { openSafetensors, openQuantized } from '@lmq/checkpoints'",
  "export { loadModel } from '@lmq/model'",
  "export { parseRecipe, quantizeBlocks } from '@lmq/pipeline'",
];
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

/** Gzipped bytes of the chunks of a program: those that it loads at once, and those that it may load later. */
async function programSizes(contents) {
  const folder = /@lmq\/([\w-]+)/.exec(contents)[1];
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: join(root, 'packages', folder), sourcefile: 'program.js' },
    bundle: true,
    splitting: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    write: false,
    metafile: true,
    outdir: root,
    absWorkingDir: root,
    logLevel: 'error',
  });
  const once = new Set();
  const visit = (chunk) => {
    if (once.has(chunk)) return;
    once.add(chunk);
    for (const { path, kind } of metafile.outputs[chunk].imports) if (kind === 'import-statement') visit(path);
  };
  visit('stdin.js');
  const sizes = { once: 0, later: 0 };
  for (const { path, text } of outputFiles) sizes[once.has(relative(root, path)) ? 'once' : 'later'] += gzip(splitWasm(text).code);
  return sizes;
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

const programRows = [['program', 'at once', 'budget', 'later']];
for (const program of PROGRAMS) {
  const { once, later } = await programSizes(program);
  if (set) programBudgets[program] = roomFor(once);
  const budget = programBudgets[program];
  if (budget === undefined) problems.push(`"${program}" has no budget in tools/size-budgets.json`);
  else if (once > budget) problems.push(`"${program}": ${once} bytes at once, budget ${budget}`);
  programRows.push([program, kB(once), kB(budget ?? 0), later ? kB(later) : '']);
}

function printTable(table) {
  const widths = table[0].map((_, i) => Math.max(...table.map((r) => r[i].length)));
  for (const row of table) console.log(row.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  '));
}

if (set) writeFileSync(budgetFile, `${JSON.stringify({ note, packages: budgets, programs: programBudgets }, null, 2)}\n`);
printTable(rows);
console.log();
printTable(programRows);
for (const problem of problems) console.error(problem);
process.exitCode = problems.length ? 1 : 0;
