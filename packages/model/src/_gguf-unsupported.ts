/**
 * The error for what GGUF, or llama.cpp, has no place for.
 * @module
 */
import { LmqError } from '@lmq/tensor';

/** Throws. */
export function unsupportedExport(what: string, found: unknown): never {
  throw new LmqError('export/unsupported', what, { op: 'ggufModel', found, hint: 'Export to the lmq format instead.' });
}
