import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

function sources(dir = join(root, 'src')): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? sources(join(dir, e.name)) : [join(dir, e.name)]));
}

describe('the package', () => {
  it('says what it must', () => {
    expect(manifest).toMatchObject({ name: '@lmq/checkpoints', license: 'MIT', type: 'module', sideEffects: false });
    expect(existsSync(join(root, 'README.md'))).toBe(true);
  });

  it('depends on tensor and formats only', () => {
    expect(Object.keys(manifest.dependencies).sort()).toEqual(['@lmq/formats', '@lmq/tensor']);
    expect(manifest.peerDependencies).toBeUndefined();
    expect(manifest.optionalDependencies).toBeUndefined();
  });

  it('exports types first, and every public file', () => {
    const { '.': main, './package.json': _, ...rest } = manifest.exports;
    for (const entry of [main, ...Object.values<Record<string, object>>(rest)]) {
      expect(Object.keys(entry.import)[0]).toBe('types');
      expect(Object.keys(entry.require)[0]).toBe('types');
      expect(existsSync(join(root, entry['lmq-src'] as unknown as string))).toBe(true);
    }
    const files = readdirSync(join(root, 'src')).filter(
      (f) => f.endsWith('.ts') && !f.startsWith('_') && f !== 'api.ts' && f !== 'index.ts',
    );
    expect(Object.keys(rest).sort()).toEqual(files.map((f) => `./${f.slice(0, -3)}`).sort());
  });

  it('needs Node in node.ts and _node only', () => {
    for (const file of sources()) {
      const text = readFileSync(file, 'utf8');
      const node = file.includes(`${join('src', '_node')}`) || file.endsWith('node.ts');
      if (!node) expect(/['"]node:|_node\/|\bprocess\.|\bBuffer\b/.test(text), file).toBe(false);
    }
  });

  it('keeps its files small', () => {
    for (const file of sources()) expect(readFileSync(file, 'utf8').split('\n').length, file).toBeLessThan(400);
  });
});
