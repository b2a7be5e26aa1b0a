import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const root = new URL('../', import.meta.url);
const manifest = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'));

it('is an MIT module without side effects', () => {
  expect(manifest.license).toBe('MIT');
  expect(manifest.type).toBe('module');
  expect(manifest.sideEffects).toBe(false);
});

it('depends on lower layers only', () => {
  expect(Object.keys(manifest.dependencies).sort()).toEqual(['@lmq/formats', '@lmq/tensor']);
});

it('exports types first, and the files exist', () => {
  for (const [name, entry] of Object.entries<Record<string, unknown>>(manifest.exports)) {
    if (name === './package.json') continue;
    expect(existsSync(new URL(entry['lmq-src'] as string, root))).toBe(true);
    for (const kind of ['import', 'require']) expect(Object.keys(entry[kind] as object)[0]).toBe('types');
  }
});

it('has a README with an example that imports it by name', () => {
  const text = readFileSync(new URL('README.md', root), 'utf8');
  expect(text).toMatch(/```ts\n[^`]*from '@lmq\/kernels-wasm'/);
});
