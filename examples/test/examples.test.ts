import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const folder = fileURLToPath(new URL('..', import.meta.url));
const run = (file: string) => execFileSync(process.execPath, [file], { cwd: folder, encoding: 'utf8' });

describe('examples', () => {
  it('are all run here', () => {
    expect(readdirSync(folder).filter((f) => f.endsWith('.mjs'))).toEqual(['gptq-matrix.mjs', 'quantize-nano.mjs']);
  });
  it('gptq-matrix.mjs: GPTQ beats rounding at every width', () => {
    const lines = run('gptq-matrix.mjs').trim().split('\n');
    expect(lines).toHaveLength(3);
    for (const line of lines) {
      const [, rounded, gptq] = /error (\S+) rounded, (\S+) GPTQ/.exec(line)!;
      expect(Number(gptq)).toBeLessThan(0.5 * Number(rounded));
    }
  });
  it('quantize-nano.mjs: perplexity rises a little, and the model still speaks', () => {
    const text = run('quantize-nano.mjs');
    const [, before, after] = /perplexity (\S+) → (\S+),/.exec(text)!;
    expect(Number(after)).toBeGreaterThan(Number(before));
    expect(Number(after)).toBeLessThan(1.1 * Number(before));
    expect(text).toContain('It was a dark and stormy night');
  });
});
