/**
 * Fields of a quantization's configuration, each with the type it must have.
 * @module
 */
import { fail } from './_checks.js';
import { type Fields, field, fieldsOf } from './_object.js';

interface Where {
  op: string;
  file: string;
}

/** @throws LmqError `model/config` when it is not an object */
export function configFields(config: unknown, where: Where): Fields {
  return (
    fieldsOf(config) ?? fail('model/config', 'the quantization has no configuration', { ...where, expected: 'an object', found: config })
  );
}

/** The first of several names of a field that is there. */
function first(of: Fields, keys: readonly string[]): { key: string; value: unknown } {
  for (const key of keys) {
    const value = field(of, key);
    if (value !== undefined) return { key, value };
  }
  return { key: keys[0]!, value: undefined };
}

/** @throws LmqError `model/config` when it is absent or no integer */
export function configInteger(of: Fields, keys: readonly string[], where: Where): number {
  const { key, value } = first(of, keys);
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  return fail('model/config', `${key} is not an integer`, { ...where, found: value ?? 'nothing' });
}

/** `undefined` when it is absent. @throws LmqError `model/config` when it is neither true nor false */
export function configFlag(of: Fields, key: string, where: Where): boolean | undefined {
  const value = field(of, key);
  if (value === undefined || typeof value === 'boolean') return value;
  return fail('model/config', `${key} is not true or false`, { ...where, found: value });
}

/** In lower case; `undefined` when it is absent. @throws LmqError `model/config` when it is no string */
export function configText(of: Fields, keys: readonly string[], where: Where): string | undefined {
  const { key, value } = first(of, keys);
  if (value === undefined) return undefined;
  return typeof value === 'string' ? value.toLowerCase() : fail('model/config', `${key} is not a string`, { ...where, found: value });
}
