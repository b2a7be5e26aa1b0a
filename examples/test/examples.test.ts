// Runs every example, and looks at what it prints.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';

const folder = fileURLToPath(new URL('..', import.meta.url));
const files = readdirSync(folder).filter((f) => f.endsWith('.mjs') && !f.startsWith('_'));
const printed = new Map<string, string>();

beforeAll(() => {
  // in one process: starting one takes longer than most examples
  const out = execFileSync(process.execPath, ['test/_run.mjs', ...files], { cwd: folder, encoding: 'utf8' });
  for (const part of out.split(/^# /m).slice(1)) {
    const end = part.indexOf('\n');
    printed.set(part.slice(0, end), part.slice(end + 1).trim());
  }
}, 600_000);

/** What an example has printed of each result. */
function results(file: string) {
  const lines = [...printed.get(file)!.matchAll(/perplexity (\S+) → (\S+), (\S+) bits per weight, (\S+) MB/g)];
  return lines.map((m) => ({ before: Number(m[1]), after: Number(m[2]), bits: Number(m[3]), megabytes: Number(m[4]) }));
}

describe('examples', () => {
  it('are short, and all in README.md', () => {
    const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
    expect([...readme.matchAll(/^\| \[(\S+\.mjs)\]/gm)].map((m) => m[1]).sort()).toEqual([...files].sort());
    for (const file of files) expect(readFileSync(`${folder}/${file}`, 'utf8').split('\n').length, file).toBeLessThan(41);
  });

  /** Bits per weight, and how much perplexity may rise, as a factor. */
  it.each<[string, [bits: number, rise: number][]]>([
    ['rtn.mjs', [[4.3125, 1.15]]],
    ['gptq.mjs', [[4.42, 1.12]]],
    ['awq.mjs', [[3.3, 1.5]]],
    [
      'smoothquant.mjs',
      [
        [8.05, 1.02],
        [8.05, 1.06],
      ],
    ],
    ['llm-int8.mjs', [[8.05, 1.01]]],
    [
      'nf4.mjs',
      [
        [4.23, 1.12],
        [4.51, 1.1],
      ],
    ],
    [
      'hqq.mjs',
      [
        [4.51, 1.12],
        [3.71, 1.6],
      ],
    ],
    ['squeezellm.mjs', [[4.17, 1.35]]],
    ['gguf.mjs', [[5.34, 1.1]]],
    [
      'imatrix.mjs',
      [
        [3.22, 2],
        [3.22, 1.7],
      ],
    ],
    [
      'convert.mjs',
      [
        [4.31, 1.15],
        [4.42, 1.15],
      ],
    ],
    ['compose.mjs', [[4.41, 1.12]]],
  ])('%s', (file, wanted) => {
    const found = results(file);
    expect(found).toHaveLength(wanted.length);
    for (const [i, [bits, rise]] of wanted.entries()) {
      const { before, after, ...size } = found[i]!;
      expect(Math.abs(size.bits - bits)).toBeLessThan(0.02);
      expect(after / before).toBeLessThan(rise);
      expect(after).toBeGreaterThan(0.98 * before);
      expect(size.megabytes).toBeLessThan(4); // of 6.3
    }
  });

  it('what some are about shows', () => {
    const [without, matrix] = results('imatrix.mjs');
    expect(matrix!.after).toBeLessThan(without!.after);
    const [awq, gptq] = results('convert.mjs');
    expect(gptq!.after).toBe(awq!.after);
    expect(printed.get('convert.mjs')).toContain('exact: 28');
    const [nf4, swept] = results('nf4.mjs');
    expect(swept!.after).toBeLessThan(nf4!.after);
    expect(printed.get('gguf.mjs')).toContain('Q4_K: 22');
    expect(printed.get('onnx.mjs')).toContain('28 tensors affine 4-bit g32');
    expect(printed.get('squeezellm.mjs')).toMatch(/^11\d{3} of 2621440 weights kept apart/);
    const scaled = [...printed.get('awq.mjs')!.matchAll(/error (\S+) → (\S+)/g)];
    expect(scaled.length).toBeGreaterThan(1);
    for (const [, plain, error] of scaled) expect(Number(error)).toBeLessThanOrEqual(Number(plain));
  });

  it('gptq-matrix.mjs: GPTQ beats rounding at every width', () => {
    const lines = printed.get('gptq-matrix.mjs')!.split('\n');
    expect(lines).toHaveLength(3);
    for (const line of lines) {
      const [, rounded, gptq] = /error (\S+) rounded, (\S+) GPTQ/.exec(line)!;
      expect(Number(gptq)).toBeLessThan(0.5 * Number(rounded));
    }
  });

  it('quantize-nano.mjs: perplexity rises a little, and the model still speaks', () => {
    const text = printed.get('quantize-nano.mjs')!;
    const [, before, after] = /perplexity (\S+) → (\S+),/.exec(text)!;
    expect(Number(after)).toBeGreaterThan(Number(before));
    expect(Number(after)).toBeLessThan(1.1 * Number(before));
    expect(text).toContain('It was a dark and stormy night');
  });
});
