import { checkInteger, checkOneOf, LmqError } from '@lmq/tensor';
import { expect, it } from 'vitest';

it('checkInteger returns what fits and names what does not', () => {
  expect(checkInteger(1, 'bits', 1, 8, 'rtn')).toBe(1);
  expect(checkInteger(8, 'bits', 1, 8, 'rtn')).toBe(8);
  for (const value of [0, 9, 2.5, Number.NaN, Number.POSITIVE_INFINITY, '4' as unknown as number]) {
    expect(() => checkInteger(value, 'bits', 1, 8, 'rtn')).toThrow(
      new LmqError('argument/option', 'bits is out of range', { op: 'rtn', expected: 'an integer in 1 … 8', found: value }),
    );
  }
});

it('checkOneOf returns what is allowed and lists it otherwise', () => {
  expect(checkOneOf('b', 'mode', ['a', 'b'], 'op')).toBe('b');
  expect(() => checkOneOf('c', 'mode', ['a', 'b'], 'op')).toThrow('op: unknown mode; expected a, b; found c');
  expect(() => checkOneOf('toString', 'mode', ['a', 'b'], 'op')).toThrow('unknown mode');
});
