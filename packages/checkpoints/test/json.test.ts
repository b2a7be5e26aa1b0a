import { describe, expect, it } from 'vitest';
import { createJsonReader, parseJson } from '../src/_json.js';
import { expectFailure, utf8 } from './_files.js';

const parse = (text: string) => parseJson(text, 'f.json', 'test');

describe('JSON of untrusted files', () => {
  it('agrees with JSON.parse on valid documents', () => {
    for (const text of [
      '{}',
      ' [ ] ',
      '[1, -2, 0, -0, 1.5, 1e3, 2E-2, 9007199254740991, -9007199254740991]',
      '{"a":{"b":[true,false,null]},"":"x"}',
      '"\\u0041\\n\\t\\"\\\\\\/\\b\\f\\r \\ud83d\\ude00 é 語"',
      `${'['.repeat(64)}${']'.repeat(64)}`,
    ]) {
      expect(JSON.stringify(parse(text))).toBe(JSON.stringify(JSON.parse(text)));
    }
  });

  it('makes objects without a prototype', () => {
    expect(Object.getPrototypeOf(parse('{"a":1}'))).toBeNull();
  });

  it.each([
    ['{"a":1,"a":2}', 7],
    ['{"x":{"a":1,"\\u0061":2}}', 12],
    ['{"__proto__":[]}', 1],
    ['{"constructor":1}', 1],
    ['{"prototype":1}', 1],
    ['[9007199254740992]', 1],
    ['[1e999]', 1],
    ['[01]', 1],
    ['[1.]', 3],
    ['[.5]', 1],
    ['[+1]', 1],
    ['[-]', 2],
    ['[1,]', 3],
    ['{"a":1,}', 7],
    ['{"a" 1}', 5],
    ['{a:1}', 1],
    ['[1 2]', 3],
    ['"a\nb"', 2],
    ['"abc', 4],
    ['"\\x"', 1],
    ['"\\u12g4"', 5],
    ['"\\ud800"', 1],
    ['"\\ud800\\u0041"', 1],
    ['"\\udc00"', 1],
    ['tru', 0],
    ['nul', 0],
    ['{} {}', 3],
    ['', 0],
    ['NaN', 0],
  ])('refuses %j at byte %i', async (text, offset) => {
    await expectFailure(() => parse(text), 'file/format', { offset, file: 'f.json' });
  });

  it('counts bytes, not characters', async () => {
    await expectFailure(() => parse('["é",x]'), 'file/format', { offset: 6 });
  });

  it('refuses invalid UTF-8', async () => {
    const reader = createJsonReader(new Uint8Array([0x22, 0xc3, 0x28, 0x22]), { op: 'test', file: 'f', base: 8 });
    await expectFailure(() => reader.string(), 'file/format', { offset: 9 });
  });

  it('bounds the nesting', async () => {
    await expectFailure(() => parse('['.repeat(65)), 'file/limit', { offset: 65 });
  });

  it('takes as a count only what is written as one', async () => {
    const count = (text: string) => createJsonReader(utf8(text), { op: 'test', file: 'f' }).count();
    expect(count(' 42')).toBe(42);
    for (const text of ['-1', '-0', '1.0', '1e2', '9007199254740992', '"1"']) await expectFailure(() => count(text), 'file/format');
  });
});
