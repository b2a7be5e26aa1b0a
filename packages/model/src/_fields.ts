/**
 * Reads fields of a configuration that somebody else wrote: every number is checked for type and range, and the error names the field.
 * @module
 */
import { LmqError } from '@lmq/tensor';

/** Own fields of a JSON object; never what its prototype has. */
export function ownField(object: object, name: string): unknown {
  return Object.hasOwn(object, name) ? (object as Record<string, unknown>)[name] : undefined;
}

export interface Fields {
  get(name: string): unknown;
  /** Names of the fields that are there, where the reader knows them. */
  readonly names: readonly string[];
  /** @throws LmqError `model/config` unless an integer in [min, max]; `fallback` when the field is absent or null */
  integer(name: string, min: number, max: number, fallback?: number): number;
  /** @throws LmqError `model/config` unless a finite number in (0, max] */
  positive(name: string, max: number, fallback?: number): number;
  /** @throws LmqError `model/config` unless a boolean */
  flag(name: string, fallback: boolean): boolean;
  /** @throws LmqError `model/unsupported` unless absent, null or one of `allowed` */
  only(name: string, allowed: readonly unknown[], hint?: string): void;
}

/**
 * Fields behind `get`; absent is undefined.
 * @param prefix goes before names in messages
 */
export function createFields(get: (name: string) => unknown, op: string, prefix = '', names: readonly string[] = []): Fields {
  const wrong = (name: string, expected: string, found: unknown) =>
    new LmqError('model/config', `the configuration's ${prefix}${name} is unusable`, { op, expected, found: found ?? 'nothing' });
  const number = (name: string, fallback?: number): unknown => {
    const value = get(name) ?? fallback;
    return typeof value === 'bigint' ? Number(value) : value;
  };
  return {
    get,
    names,
    integer(name, min, max, fallback) {
      const value = number(name, fallback);
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
        throw wrong(name, `an integer in ${min} … ${max}`, value);
      }
      return value;
    },
    positive(name, max, fallback) {
      const value = number(name, fallback);
      if (typeof value !== 'number' || !(value > 0 && value <= max)) throw wrong(name, `a number in (0, ${max}]`, value);
      return value;
    },
    flag(name, fallback) {
      const value = get(name) ?? fallback;
      if (typeof value !== 'boolean') throw wrong(name, 'true or false', value);
      return value;
    },
    only(name, allowed, hint) {
      const value = get(name);
      if (value === undefined || value === null || allowed.includes(value)) return;
      throw unsupported(op, prefix + name, value, allowed.length ? allowed.join(' or ') : 'nothing', hint);
    },
  };
}

/** The error for a feature that lmq does not run: names the field, its value and what would be supported. */
export function unsupported(
  op: string,
  name: string,
  found: unknown,
  expected: string,
  hint = 'lmq does not run such models yet.',
): LmqError {
  return new LmqError('model/unsupported', `${name} is not supported`, { op, expected, found, hint });
}

/** Limits on sizes in configurations: far above any real model, low enough that their products stay exact. */
export const LIMITS = {
  layers: 1024,
  width: 2 ** 20,
  heads: 4096,
  headDim: 4096,
  vocab: 2 ** 24,
  context: 2 ** 28,
  experts: 1024,
} as const;
