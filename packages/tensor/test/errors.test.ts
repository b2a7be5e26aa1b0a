import { isLmqError, LmqError, printable } from '@lmq/tensor';
import { describe, expect, it, vi } from 'vitest';

describe('LmqError', () => {
  it('composes its message of the facts that are there', () => {
    expect(new LmqError('argument/shape', 'shapes differ').message).toBe('shapes differ');
    expect(new LmqError('argument/shape', 'shapes differ', { op: 'gemm' }).message).toBe('gemm: shapes differ');
    const full = new LmqError('file/format', 'the header is broken', {
      op: 'openGguf',
      file: 'a.gguf',
      tensor: 'blk.0.attn_q.weight',
      offset: 0,
      expected: 3,
      found: [1, 2],
      hint: 'Download it again.',
    });
    expect(full.message).toBe(
      'openGguf: the header is broken (file a.gguf, tensor blk.0.attn_q.weight, byte 0); expected 3; found [1,2]. Download it again.',
    );
    expect(new LmqError('file/io', 'no', { found: 0, expected: '' }).message).toBe('no; expected ; found 0');
  });

  it('is an Error with name, code, facts and cause', () => {
    const cause = new Error('disk');
    const e = new LmqError('file/io', 'cannot read', { file: 'x', cause });
    expect(e).toBeInstanceOf(Error);
    expect(e.name).toBe('LmqError');
    expect(e.code).toBe('file/io');
    expect(e.cause).toBe(cause);
    expect(e.facts).toEqual({ file: 'x' });
    expect(Object.hasOwn(new LmqError('file/io', 'cannot read'), 'cause')).toBe(false);
  });

  it('turns into JSON without the cause', () => {
    const e = new LmqError('model/config', 'widths differ', { op: 'load', expected: 4, found: 2n ** 64n - 1n, cause: new Error('x') });
    expect(JSON.parse(JSON.stringify(e))).toEqual({
      code: 'model/config',
      message: 'load: widths differ; expected 4; found 18446744073709551615',
      op: 'load',
      expected: 4,
      found: '18446744073709551615',
    });
  });

  it('escapes and cuts what comes from files', () => {
    const e = new LmqError('file/format', 'bad name', {
      tensor: `\u001b[31m${'x'.repeat(1000)}`,
      file: 'a\u202etxt',
      found: 'b\r\nc\u0085',
    });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is the point
    expect(e.message).not.toMatch(/[\u0000-\u001f\u0080-\u009f\u202e]/);
    expect(e.message).toContain('\\u001b[31m');
    expect(e.message).toContain('a\\u202etxt');
    expect(e.message).toContain('b\\u000d\\u000ac\\u0085');
    expect(e.message.length).toBeLessThan(200);
  });

  it.each([
    ['cyclic', (() => Object.assign(Object.create({}), { self: null as unknown }))()],
    ['a bigint inside', { n: 1n }],
    ['no prototype', Object.create(null)],
    ['a symbol', Symbol('s')],
    ['undefined from toJSON', { toJSON: () => undefined }],
    ['throws in toJSON', { toJSON: () => JSON.parse('{') }],
  ])('does not fail on its own facts: %s', (label, found) => {
    if (label === 'cyclic') (found as { self: unknown }).self = found;
    expect(new LmqError('argument/value', 'unusable', { found }).message).toMatch(/^unusable; found ./);
  });
});

describe('printable', () => {
  it.each([
    ['plain', 'plain'],
    [12, '12'],
    [null, 'null'],
    [undefined, 'undefined'],
    [{ a: [1] }, '{"a":[1]}'],
    ['tab\there', 'tab\\u0009here'],
    ['\u200b\ufeff', '\\u200b\\ufeff'],
    ['\u{e0041}', '\\u{e0041}'], // an invisible tag character
    ['\ud800', '\\ud800'], // half of a pair
    ['line\u2028end', 'line\\u2028end'],
    ['名前 😀', '名前 😀'],
  ])('%j', (value, text) => {
    expect(printable(value)).toBe(text);
  });

  it('keeps 80 characters, and cuts 81 to 77 and dots', () => {
    expect(printable('x'.repeat(80))).toBe('x'.repeat(80));
    expect(printable('x'.repeat(81))).toBe(`${'x'.repeat(77)}...`);
    expect(printable(`${'x'.repeat(76)}😀😀😀`)).toBe(`${'x'.repeat(76)}...`); // never half a pair
    expect(printable('\n'.repeat(1e7)).length).toBe(80);
  });
});

describe('isLmqError', () => {
  it('knows errors of another copy of the module', async () => {
    vi.resetModules();
    const other = await import('@lmq/tensor');
    expect(other.LmqError).not.toBe(LmqError);
    const e = new other.LmqError('file/io', 'x');
    expect(e).not.toBeInstanceOf(LmqError);
    expect(isLmqError(e)).toBe(true);
    expect(other.isLmqError(new LmqError('file/io', 'x'))).toBe(true);
  });

  it('says no to everything else', () => {
    for (const e of [new Error('x'), { code: 'file/io', name: 'LmqError' }, null, undefined, 'LmqError', 3])
      expect(isLmqError(e)).toBe(false);
  });
});
