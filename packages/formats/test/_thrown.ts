import { isLmqError, type LmqError } from '@lmq/tensor';

/** The LmqError that `f` throws; anything else fails the test. */
export function thrown(f: () => unknown): LmqError {
  try {
    f();
  } catch (e) {
    if (isLmqError(e)) return e;
    throw e;
  }
  throw new Error('nothing was thrown');
}
