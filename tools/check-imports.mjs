// Enforces the layers of docs/architecture.md from what the sources really import:
// a package imports only from lower layers (inside L1, also from formats), declares what it imports and imports what it declares,
// keeps third-party code out of L0 to L3, and node:* out of everything but the folders allowed to touch files.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import ts from 'typescript';

const LAYERS = {
  tensor: 0,
  formats: 1,
  checkpoints: 1,
  'kernels-js': 1,
  'kernels-wasm': 1,
  'quant-core': 2,
  equalize: 3,
  gptq: 3,
  model: 4,
  nano: 4,
  eval: 5,
  pipeline: 6,
  cli: 7,
};
/** Third-party run-time dependencies, by package. */
const THIRD_PARTY = {
  tensor: ['ndarray', '@types/ndarray'],
  model: ['@huggingface/tokenizers', '@huggingface/jinja'],
  cli: ['commander', 'picocolors'],
};
/** Sources that may import node:*. */
const NODE_SOURCES = [/^checkpoints\/src\/(node\.ts|_node\/)/, /^pipeline\/src\/(node\.ts|_node\/)/, /^cli\/src\//];

const problems = [];
const nameOf = (folder) => (folder === 'cli' ? 'lmq' : `@lmq/${folder}`);
const folderOf = (specifier) => Object.keys(LAYERS).find((f) => specifier === nameOf(f) || specifier.startsWith(`${nameOf(f)}/`));
const builtin = new Set(builtinModules);

function sources(dir) {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true }).flatMap((e) => {
    const path = join(dir, e.name);
    if (e.isDirectory()) return sources(path);
    return /\.(ts|mts|js|mjs)$/.test(e.name) ? [path] : [];
  });
}

/** Every module a file imports, type imports included. */
function importsOf(path) {
  const info = ts.preProcessFile(readFileSync(path, 'utf8'), true, true);
  return info.importedFiles.map((f) => f.fileName);
}

/** `@scope/name` or `name` of a bare specifier. */
function packageOf(specifier) {
  const parts = specifier.split('/');
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : parts[0];
}

const folders = readdirSync('packages').filter((f) => existsSync(`packages/${f}/package.json`));
for (const folder of folders) {
  const manifest = JSON.parse(readFileSync(`packages/${folder}/package.json`, 'utf8'));
  const say = (text) => problems.push(`${folder}: ${text}`);
  if (!(folder in LAYERS)) {
    say('has no layer; add it to LAYERS in tools/check-imports.mjs');
    continue;
  }
  const declared = new Set(Object.keys(manifest.dependencies ?? {}));
  const allDeclared = new Set([...declared, ...Object.keys(manifest.devDependencies ?? {})]);
  const used = new Set();

  for (const path of [...sources(`packages/${folder}/src`), ...sources(`packages/${folder}/bin`)]) {
    const where = path.slice('packages/'.length);
    for (const specifier of importsOf(path)) {
      if (specifier.startsWith('.')) continue;
      if (specifier.startsWith('node:') || builtin.has(specifier)) {
        if (!specifier.startsWith('node:')) say(`${where} imports ${specifier} without node:`);
        if (!NODE_SOURCES.some((r) => r.test(where)) && !where.includes('/bin/'))
          say(`${where} imports ${specifier}, but must run in a browser`);
        continue;
      }
      const pkg = packageOf(specifier);
      used.add(pkg);
      if (!declared.has(pkg)) say(`${where} imports ${pkg}, which is not in its dependencies`);
      const other = folderOf(specifier);
      if (other) {
        if (other === folder) say(`${where} imports its own package by name`);
        else if (LAYERS[other] >= LAYERS[folder] && !(other === 'formats' && LAYERS[folder] === 1)) {
          say(`${where} (L${LAYERS[folder]}) imports ${specifier} (L${LAYERS[other]})`);
        }
      } else if (!(THIRD_PARTY[folder] ?? []).includes(pkg)) say(`${where} imports ${pkg}, a third-party package not allowed here`);
    }
  }
  for (const path of [...sources(`packages/${folder}/test`), ...sources(`packages/${folder}/bench`)]) {
    for (const specifier of importsOf(path)) {
      if (specifier.startsWith('.') || specifier.startsWith('node:') || folderOf(specifier) === folder) continue;
      const pkg = packageOf(specifier);
      if (folderOf(specifier)) {
        used.add(pkg);
        if (!allDeclared.has(pkg)) say(`${path.slice('packages/'.length)} imports ${pkg}, which is not declared`);
      }
    }
  }
  for (const dep of allDeclared) {
    const types = dep.startsWith('@types/') ? dep.slice('@types/'.length) : dep;
    if (!used.has(dep) && !used.has(types)) say(`declares ${dep} but never imports it`);
  }
}

if (problems.length) {
  console.error(problems.join('\n'));
  console.error(`\n${problems.length} problem(s); the rules are in docs/architecture.md`);
  process.exit(1);
}
console.log(`imports of ${folders.length} packages follow the layers`);
