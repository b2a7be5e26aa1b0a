// Every file of test/corpus is opened and read: the valid ones are, the damaged ones end in the error, and at the byte, of expected.json.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isLmqError, type LmqError } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../src/_node/open.js';
import { fileSource } from '../src/_node/source.js';
import { readImatrix } from '../src/imatrix.js';
import { openQuantized } from '../src/open-quantized.js';

interface Expected {
  /** Of the error; null: there is none. */
  code: string | null;
  offset?: number;
  tensor?: string;
  /** Part of the message. */
  message?: string;
}

const corpus = fileURLToPath(new URL('./corpus/', import.meta.url));
const expected = JSON.parse(readFileSync(join(corpus, 'expected.json'), 'utf8')) as Record<string, Expected>;

/** Opens what a case holds, a file, a folder or the first part of a model, and reads all of it. */
async function readAll(path: string): Promise<number> {
  const part = statSync(path).isDirectory() ? readdirSync(path).find((name) => name.endsWith('.gguf')) : undefined;
  if (part !== undefined) return readAll(join(path, part));
  if (path.includes('/imatrix/')) {
    const source = await fileSource(path);
    return (await readImatrix(source).finally(() => source.close())).entries.size;
  }
  const stored = await openCheckpoint(path);
  try {
    const config = join(path, 'config.json');
    const checkpoint = existsSync(config) ? await openQuantized(stored, JSON.parse(readFileSync(config, 'utf8'))) : stored;
    for (const name of checkpoint.tensors.keys()) await checkpoint.read(name);
    return checkpoint.tensors.size;
  } finally {
    await stored.close();
  }
}

/** Cases are two levels down. */
const cases = readdirSync(corpus, { withFileTypes: true })
  .filter((e) => e.isDirectory())
  .flatMap((format) => readdirSync(join(corpus, format.name)).map((name) => `${format.name}/${name}`));

function sizeOf(path: string): number {
  return statSync(path).isDirectory() ? readdirSync(path).reduce((n, name) => n + sizeOf(join(path, name)), 0) : statSync(path).size;
}

describe('corpus', () => {
  it('is small, and every case is expected to end in something', () => {
    expect(sizeOf(corpus)).toBeLessThan(250_000);
    expect(cases.sort()).toEqual(Object.keys(expected).sort());
  });

  it.each(cases)('%s', async (name) => {
    const { code, message, ...where } = expected[name]!;
    const found = await readAll(join(corpus, name)).catch((e: unknown) => e);
    if (code === null) {
      expect(found).toEqual(expect.any(Number));
      return;
    }
    expect(isLmqError(found), String(found)).toBe(true);
    const { facts, message: text } = found as LmqError;
    expect({ code: (found as LmqError).code, ...Object.fromEntries(Object.keys(where).map((k) => [k, facts[k as 'offset']])) }).toEqual({
      code,
      ...where,
    });
    if (message !== undefined) expect(text).toContain(message);
    expect(text).not.toContain('undefined');
  });
});
