/**
 * Stdout and stderr whose reader may go away: `lmq inspect … | head`.
 * @module
 */
import { LmqError } from '@lmq/tensor';

/** Watches while a command runs. */
export interface OutputWatch {
  /** Whether stdout takes no more because its reader has closed it. */
  readonly closed: boolean;
  /** The error when stdout takes no more for another reason, a full disk for one. */
  readonly error: LmqError | undefined;
  /** Waits until everything has been written, or cannot be. */
  flush(): Promise<void>;
  /** The same, and stops watching. */
  end(): Promise<void>;
}

/**
 * Keeps a failed write from ending the process with a stack trace, and calls `stop` when stdout takes no more. Nobody reading stderr is no
 * reason to stop: it has only remarks.
 */
export function watchOutput(stop: () => void): OutputWatch {
  let failure: NodeJS.ErrnoException | undefined;
  const onOut = (e: NodeJS.ErrnoException) => {
    failure ??= e;
    stop();
  };
  const onErr = () => {};
  process.stdout.on('error', onOut);
  process.stderr.on('error', onErr);
  const flush = async () => {
    // the callback comes after the writes before it; the error event, if any, in the turn after that
    for (const stream of [process.stdout, process.stderr]) await new Promise<void>((done) => stream.write('', () => setImmediate(done)));
  };
  return {
    get closed() {
      return failure?.code === 'EPIPE';
    },
    get error() {
      if (failure === undefined || failure.code === 'EPIPE') return undefined;
      return new LmqError('file/io', 'stdout cannot be written', {
        file: 'stdout',
        found: failure.code ?? failure.message,
        cause: failure,
      });
    },
    flush,
    async end() {
      await flush();
      process.stdout.off('error', onOut);
      process.stderr.off('error', onErr);
    },
  };
}
