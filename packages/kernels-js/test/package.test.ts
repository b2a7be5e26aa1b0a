import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const root = new URL('../', import.meta.url);
const pkg = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'));

it('is an MIT ES module without side effects that depends only on tensor and formats', () => {
  expect(pkg.license).toBe('MIT');
  expect(pkg.type).toBe('module');
  expect(pkg.sideEffects).toBe(false);
  expect(Object.keys(pkg.dependencies).sort()).toEqual(['@lmq/formats', '@lmq/tensor']);
  expect(pkg.peerDependencies).toBeUndefined();
});

it('has a README', () => {
  expect(existsSync(new URL('README.md', root))).toBe(true);
});

it('exports sources that exist, types first', () => {
  for (const [subpath, conditions] of Object.entries<Record<string, string | Record<string, string>>>(pkg.exports)) {
    if (subpath === './package.json') continue;
    expect(existsSync(new URL(conditions['lmq-src'] as string, root)), subpath).toBe(true);
    for (const kind of ['import', 'require']) expect(Object.keys(conditions[kind]!)[0], subpath).toBe('types');
  }
});
