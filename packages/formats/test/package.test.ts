import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import * as formats from '@lmq/formats';
import { describe, expect, it } from 'vitest';

const at = (path: string) => new URL(`../${path}`, import.meta.url);
const manifest = JSON.parse(readFileSync(at('package.json'), 'utf8'));
const readme = existsSync(at('README.md')) ? readFileSync(at('README.md'), 'utf8') : '';

describe('package @lmq/formats', () => {
  it('is MIT, ESM and free of side effects', () => {
    expect([manifest.license, manifest.type, manifest.sideEffects]).toEqual(['MIT', 'module', false]);
  });

  it('depends on @lmq/tensor only', () => {
    expect(Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })).toEqual(['@lmq/tensor']);
  });

  it('puts types first in every export, and every export has its source', () => {
    for (const [path, entry] of Object.entries<Record<string, unknown>>(manifest.exports)) {
      if (path === './package.json') continue;
      expect(existsSync(at(entry['lmq-src'] as string)), path).toBe(true);
      for (const kind of ['import', 'require']) expect(Object.keys(entry[kind] as object)[0], `${path} ${kind}`).toBe('types');
    }
  });

  it('exports what the README names', () => {
    const table = readme.split('\n').filter((line) => line.startsWith('| `'));
    const names = table.flatMap((line) => [...(line.split('|')[1] ?? '').matchAll(/`(\w+)/g)].map((m) => m[1]));
    expect(names.length).toBeGreaterThan(20);
    for (const name of names) expect(formats, name).toHaveProperty(name);
    const values = Object.keys(formats).filter((name) => !names.includes(name));
    expect(values, 'not in the README').toEqual([]);
  });

  it('has an example in the README that runs and prints what it says', async () => {
    const code = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
    const said = [...code.matchAll(/^console\.log.*\/\/ (.*)$/gm)].map((m) => m[1]);
    expect(said.length).toBeGreaterThan(2);
    const printed: string[] = [];
    const imports = { '@lmq/formats': formats, '@lmq/tensor': await import('@lmq/tensor') };
    const body = code.replace(/^import \{(.*)\} from '(.*)';$/gm, (_, names, from) => `const {${names}} = imports['${from}'];`);
    new Function('imports', 'console', body)(imports, { log: (...args: unknown[]) => printed.push(args.join(' ')) });
    expect(printed).toEqual(said);
  });

  it.skipIf(!existsSync(at('dist/index.js')))('loads without touching a global (when built)', () => {
    const script = `const before = Reflect.ownKeys(globalThis).length;
      await import(${JSON.stringify(at('dist/index.js').href)});
      process.stdout.write(String(Reflect.ownKeys(globalThis).length - before));`;
    expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })).toBe('0');
  });
});
