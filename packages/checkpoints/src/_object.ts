/**
 * Reading fields of parsed JSON whose shape is not known: own properties only, each with the type it must have.
 * @module
 */
import { type ErrorCode, LmqError } from '@lmq/tensor';

export type Fields = Record<string, unknown>;

/** The value as an object with fields, or `undefined`. Arrays are not. */
export function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

/** An own property, `null` read as absent. */
export function field(of: Fields, key: string): unknown {
  return Object.hasOwn(of, key) ? (of[key] ?? undefined) : undefined;
}

/** A positive integer of a configuration. @throws LmqError `model/config` when it is absent and there is no default */
export function countField(of: Fields, key: string, op: string, fallback?: number): number {
  const value = field(of, key) ?? fallback;
  if (typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 2 ** 32) return value;
  throw new LmqError('model/config', `config.json: ${key} is not a count`, {
    op,
    expected: 'a positive integer',
    found: value ?? 'nothing',
  });
}

/** A finite number of a configuration. @throws LmqError `model/config` */
export function numberField(of: Fields, key: string, op: string, fallback?: number): number {
  const value = field(of, key) ?? fallback;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw new LmqError('model/config', `config.json: ${key} is not a number`, { op, found: value ?? 'nothing' });
}

/** A string field, or `undefined` when it is absent or something else. */
export function textField(of: Fields, key: string): string | undefined {
  const value = field(of, key);
  return typeof value === 'string' ? value : undefined;
}

/** Throws: the export cannot hold this. */
export function unsupported(code: ErrorCode, what: string, found: unknown, hint: string): never {
  throw new LmqError(code, what, { op: 'ggufLlama', found, hint });
}
