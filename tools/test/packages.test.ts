// What every published package promises: the manifest, the entries, the README and its example, and sources that run in a browser.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const folders = readdirSync(join(root, 'packages')).filter((p) => existsSync(join(root, 'packages', p, 'package.json')));
const scratch = join(root, 'examples', '.readme'); // inside examples, where every package resolves by name

beforeAll(() => mkdirSync(scratch, { recursive: true }));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function sources(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? sources(join(dir, e.name)) : [join(dir, e.name)]));
}

describe.each(folders)('%s', (folder) => {
  const at = (path: string) => join(root, 'packages', folder, path);
  const manifest = JSON.parse(readFileSync(at('package.json'), 'utf8'));
  const readme = readFileSync(at('README.md'), 'utf8');

  it('is MIT, ESM, free of side effects and of install scripts, and ships what it lists', () => {
    expect(manifest).toMatchObject({ license: 'MIT', type: 'module', engines: { node: '>=20.19' } });
    // only a worker's script does something when it is loaded
    expect([manifest.sideEffects].flat().filter((f) => f !== false && !/\/worker\.(ts|js|cjs)$/.test(f))).toEqual([]);
    expect(Object.keys(manifest.scripts)).toEqual(['build']);
    for (const file of manifest.files) expect(existsSync(at(file)), file).toBe(true);
    expect(manifest.files).toContain('README.md');
  });

  it('puts types first in every entry, and every entry was built', () => {
    for (const [name, entry] of Object.entries<Record<string, Record<string, string>>>(manifest.exports)) {
      if (name === './package.json') continue;
      for (const kind of ['import', 'require']) {
        expect(Object.keys(entry[kind]!), `${name} ${kind}`).toEqual(['types', 'default']);
        for (const file of Object.values(entry[kind]!)) expect(existsSync(at(file)), file).toBe(true);
      }
    }
  });

  it('uses Node only where files are its business', () => {
    for (const file of sources(at('src'))) {
      if (folder === 'cli' || file.includes('_node') || file.endsWith('node.ts') || file.includes('generated')) continue;
      const code = readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
      expect(/\bprocess\.|\bBuffer\./.test(code), file).toBe(false); // node:* imports: tools/check-imports.mjs
    }
  });

  it('has a README whose example runs and prints what its comments say', () => {
    const code = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
    expect(code).toContain(`from '${manifest.name}`);
    const { outputText } = ts.transpileModule(code, { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 } });
    const file = join(scratch, `${folder}.mjs`);
    writeFileSync(file, outputText);
    const printed = execFileSync(process.execPath, [file], { cwd: scratch, encoding: 'utf8' }).trim().split('\n');
    for (const [, said] of code.matchAll(/^console\.log\(.*\/\/ → (.*)$/gm)) expect(printed).toContain(said);
  });
});
