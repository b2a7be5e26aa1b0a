/**
 * What was read from a file and does not make a valid tensor is the file's fault, not the caller's.
 * @module
 */
import { validate } from '@lmq/formats';
import { type CompressedTensor, type ErrorFacts, isLmqError, LmqError } from '@lmq/tensor';

/** The tensor, if it is valid. @throws LmqError `file/format` with what `validate` found */
export function checkStored<T extends CompressedTensor>(t: T, where: ErrorFacts): T {
  try {
    validate(t);
  } catch (cause) {
    if (!isLmqError(cause)) throw cause;
    const { expected, found } = cause.facts;
    throw new LmqError('file/format', `the stored tensor is damaged: ${cause.message}`, { ...where, expected, found, cause });
  }
  return t;
}
