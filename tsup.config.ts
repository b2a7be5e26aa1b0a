// The one build description of every package: each file of `src` becomes an ES module and a CommonJS file, so that a bundler can leave out any
// of them and load any of them on demand (bundlers cut between files: in shared chunks, what is needed at once drags along what is not).
// Those named in the package's `exports` get types.
import { readdirSync, readFileSync } from 'node:fs';
import { defineConfig, type Options } from 'tsup';

type ExportEntry = string | { 'lmq-src'?: string };
const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as { exports: Record<string, ExportEntry> };
const exported = Object.values(manifest.exports).flatMap((e) => (typeof e === 'object' && e['lmq-src'] ? [e['lmq-src']] : []));
const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).flatMap((f) => (f.endsWith('.ts') ? [`src/${f}`] : []));

/** Imports between files of a package stay imports; JSON is inlined. */
const filesStay: NonNullable<Options['esbuildPlugins']>[number] = {
  name: 'files-stay',
  setup(build) {
    const extension = build.initialOptions.outExtension?.['.js'] ?? '.js';
    build.onResolve({ filter: /^\.{1,2}\/.*\.js$/ }, ({ path }) => ({
      path: path.replace(/\.js$/, extension),
      external: true,
      sideEffects: false,
    }));
  },
};

export default defineConfig({
  entry: sources,
  format: ['esm', 'cjs'],
  esbuildPlugins: [filesStay],
  dts: { entry: exported, compilerOptions: { ignoreDeprecations: '6.0' } }, // tsup injects `baseUrl`, which TypeScript 6 reports as deprecated
  sourcemap: false,
  clean: true,
  target: 'es2022',
  shims: true, // import.meta.url in CommonJS
});
