/**
 * Errors as exit codes and as text.
 * @module
 */
import { type ErrorCode, isLmqError } from '@lmq/tensor';

const EXIT: Record<string, number> = {
  'argument/option': 2,
  'export/unsupported': 2,
  'file/exists': 2,
  'file/missing': 3,
  'file/truncated': 3,
  'file/format': 3,
  'file/limit': 3,
  'model/unsupported': 3,
  'model/config': 3,
  'model/missing': 3,
  'tokenizer/unsupported': 3,
  'calibration/short': 3,
  'argument/value': 3, // NaN or infinite weights: values come from files here, never from the command line
  'quality/gate': 4,
} satisfies Partial<Record<ErrorCode, number>>;

/** The exit code of an error. */
export function exitCode(e: unknown): number {
  return isLmqError(e) ? (EXIT[e.code] ?? 1) : 1;
}

/** An error as `--json` prints it. */
export function explain(e: unknown, code: number): { code: string; message: string } {
  if (code === 130)
    return { code: 'interrupted', message: 'interrupted: no output was written; the same command goes on from the last finished block' };
  if (isLmqError(e)) return e.toJSON();
  return { code: 'internal', message: e instanceof Error ? (e.stack ?? e.message) : String(e) };
}
