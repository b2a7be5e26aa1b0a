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

/** A string field, or `undefined` when it is absent or something else. */
export function textField(of: Fields, key: string): string | undefined {
  const value = field(of, key);
  return typeof value === 'string' ? value : undefined;
}

/** Throws: the export cannot hold this. */
export function unsupported(code: ErrorCode, what: string, found: unknown, hint: string): never {
  throw new LmqError(code, what, { op: 'ggufTokenizer', found, hint });
}
