// Writes each package's `exports` from its public source files, so that the map never drifts from the code.
// Public: every `src/**/*.ts` but `api.ts`, files in `generated/` and files or folders that begin with `_`; `src/index.ts` is ".".
// `--check` changes nothing and fails when a map is stale.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

const check = process.argv.includes('--check');
const stale = [];

/** @returns {string[]} public source paths relative to `src`, without extension */
function publicFiles(dir, prefix = '') {
  return readdirSync(dir, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((e) => {
      if (e.name.startsWith('_') || e.name === 'generated') return [];
      if (e.isDirectory()) return publicFiles(`${dir}/${e.name}`, `${prefix}${e.name}/`);
      if (!e.name.endsWith('.ts') || e.name === 'api.ts') return [];
      return [`${prefix}${e.name.slice(0, -3)}`];
    });
}

for (const name of readdirSync('packages').sort()) {
  const path = `packages/${name}/package.json`;
  if (!existsSync(path)) continue;
  const manifest = JSON.parse(readFileSync(path, 'utf8'));
  const exports = {};
  const files = manifest.bin ? ['index'] : publicFiles(`packages/${name}/src`); // a command has no subpaths
  for (const file of files.sort((a, b) => (a === 'index' ? -1 : b === 'index' ? 1 : 0))) {
    exports[file === 'index' ? '.' : `./${file}`] = {
      'lmq-src': `./src/${file}.ts`,
      import: { types: `./dist/${file}.d.ts`, default: `./dist/${file}.js` },
      require: { types: `./dist/${file}.d.cts`, default: `./dist/${file}.cjs` },
    };
  }
  exports['./package.json'] = './package.json';
  if (JSON.stringify(manifest.exports) === JSON.stringify(exports)) continue;
  stale.push(name);
  if (!check) writeFileSync(path, `${JSON.stringify({ ...manifest, exports }, null, 2)}\n`);
}

if (check && stale.length) {
  console.error(`exports are stale in: ${stale.join(', ')}; run "pnpm sync"`);
  process.exit(1);
}
