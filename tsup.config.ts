// The one build description of every package: each `src` file named in the package's `exports` becomes an ESM file, a CommonJS file and their types.
import { readFileSync } from 'node:fs';
import { defineConfig } from 'tsup';

type ExportEntry = string | { 'lmq-src'?: string };
const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as { exports: Record<string, ExportEntry> };
const entry = Object.values(manifest.exports).flatMap((e) => (typeof e === 'object' && e['lmq-src'] ? [e['lmq-src']] : []));

export default defineConfig({
  entry,
  format: ['esm', 'cjs'],
  dts: { compilerOptions: { ignoreDeprecations: '6.0' } }, // tsup injects `baseUrl`, which TypeScript 6 reports as deprecated
  splitting: true, // entries of one package share their chunks, in both formats
  sourcemap: false,
  clean: true,
  target: 'es2022',
  shims: true, // import.meta.url in CommonJS
});
