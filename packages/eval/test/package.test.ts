import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const at = (path: string) => new URL(`../${path}`, import.meta.url);
const manifest = JSON.parse(readFileSync(at('package.json'), 'utf8'));

describe('package @lmq/eval', () => {
  it('is MIT, ESM and free of side effects', () => {
    expect([manifest.license, manifest.type, manifest.sideEffects]).toEqual(['MIT', 'module', false]);
  });
  it('depends on lower layers only', () => {
    expect(Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies }).sort()).toEqual(['@lmq/model', '@lmq/tensor']);
  });
  it('ships what it lists', () => {
    expect(manifest.files).toEqual(expect.arrayContaining(['dist', 'README.md']));
    for (const name of manifest.files.filter((f: string) => f !== 'dist')) expect(existsSync(at(name)), name).toBe(true);
  });
  it('puts types first in every export', () => {
    for (const [path, entry] of Object.entries<Record<string, unknown>>(manifest.exports)) {
      if (path === './package.json') continue;
      for (const kind of ['import', 'require']) expect(Object.keys(entry[kind] as object)[0], `${path} ${kind}`).toBe('types');
    }
  });
});
