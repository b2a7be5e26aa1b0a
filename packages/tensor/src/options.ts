/**
 * Small checks of options, shared by every package: the message names the option, what was expected and what came.
 * @module
 */
import { LmqError } from './errors.js';

/** @throws LmqError `argument/option` unless `value` is an integer in [min, max] */
export function checkInteger(value: number, name: string, min: number, max: number, op: string): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new LmqError('argument/option', `${name} is out of range`, { op, expected: `an integer in ${min} … ${max}`, found: value });
}

/** @throws LmqError `argument/option` unless `value` is one of `allowed` */
export function checkOneOf<T extends string>(value: string, name: string, allowed: readonly T[], op: string): T {
  if ((allowed as readonly string[]).includes(value)) return value as T;
  throw new LmqError('argument/option', `unknown ${name}`, { op, expected: allowed.join(', '), found: value });
}
