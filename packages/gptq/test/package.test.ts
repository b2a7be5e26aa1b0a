import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const root = new URL('../', import.meta.url);
const manifest = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as {
  license: string;
  type: string;
  sideEffects: boolean;
  dependencies: Record<string, string>;
  exports: Record<string, string | { 'lmq-src': string; import: object; require: object }>;
};

describe('package', () => {
  it('is MIT, ESM, free of side effects', () => {
    expect(manifest).toMatchObject({ license: 'MIT', type: 'module', sideEffects: false });
  });
  it('depends on lower layers only', () => {
    expect(Object.keys(manifest.dependencies).sort()).toEqual(['@lmq/formats', '@lmq/kernels-js', '@lmq/quant-core', '@lmq/tensor']);
  });
  it('has a README whose example runs', async () => {
    const example = /```ts\n([\s\S]*?)```/.exec(readFileSync(new URL('README.md', root), 'utf8'))?.[1] ?? '';
    const imports: Record<string, object> = {
      '@lmq/gptq': await import('@lmq/gptq'),
      '@lmq/kernels-js': await import('@lmq/kernels-js'),
      '@lmq/quant-core': await import('@lmq/quant-core'),
      '@lmq/tensor': await import('@lmq/tensor'),
    };
    const body = example
      .replace(/^import \{(.*)\} from '(.*)';$/gm, (_, names, from) => `const {${names}} = imports['${from}'];`)
      .replaceAll(' as const', '');
    const printed: unknown[][] = [];
    const run = new Function('imports', 'console', `return (async () => {${body}})()`);
    await run(imports, { log: (...args: unknown[]) => printed.push(args) });
    const [kind, bits, ours, nearest] = printed[0]!;
    expect([kind, bits]).toEqual(['affine', 3 + (16 + 3) / 32]);
    expect(ours as number).toBeLessThan(0.5 * (nearest as number));
  });
  it('exports public sources with types first', () => {
    expect(Object.keys(manifest.exports)).toContain('./gptq');
    for (const entry of Object.values(manifest.exports)) {
      if (typeof entry === 'string') continue;
      expect(existsSync(new URL(entry['lmq-src'], root))).toBe(true);
      expect(Object.keys(entry.import)[0]).toBe('types');
      expect(Object.keys(entry.require)[0]).toBe('types');
    }
  });
});
