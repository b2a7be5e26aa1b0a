/**
 * The `lmq` command: parses arguments, runs one subcommand, turns errors into exit codes.
 *
 * Exit codes: 0 ok, 1 failure, 2 usage, 3 invalid input file, 4 quality gate failed, 130 interrupted.
 * @module
 */
import { isLmqError } from '@lmq/tensor';
import { Command, CommanderError } from 'commander';
import { version } from '../package.json';
import { addCalibrate } from './commands/calibrate.js';
import { addCompare } from './commands/compare.js';
import { addConvert } from './commands/convert.js';
import { addEstimate } from './commands/estimate.js';
import { addEval } from './commands/eval.js';
import { addGenerate } from './commands/generate.js';
import { addInspect } from './commands/inspect.js';
import { addQuantize } from './commands/quantize.js';
import { addVerify } from './commands/verify.js';
import { exitCode, explain } from './exit.js';
import { watchOutput } from './output.js';
import { createTerminal, type Terminal } from './terminal.js';

/**
 * Runs the command line.
 * @param argv arguments without the program's own path
 * @returns the exit code
 */
export async function run(argv: readonly string[]): Promise<number> {
  const terminal = createTerminal(argv);
  const interrupt = new AbortController();
  const onInterrupt = () => {
    if (interrupt.signal.aborted) process.exit(130); // the second Ctrl-C does not wait for cleaning up
    terminal.say('stopping; press Ctrl-C again to stop at once');
    interrupt.abort(new DOMException('interrupted', 'AbortError'));
  };
  process.on('SIGINT', onInterrupt);
  process.on('SIGTERM', onInterrupt);
  const closed = new DOMException('stdout is closed', 'AbortError');
  const output = watchOutput(() => interrupt.abort(closed));
  const ends: (() => unknown)[] = [];
  let exit = 0;
  const context: Context = {
    terminal,
    signal: interrupt.signal,
    atEnd: (end) => ends.unshift(end),
    exitWith: (code) => {
      exit = code;
    },
  };
  try {
    try {
      await program(context).parseAsync([...argv], { from: 'user' });
    } finally {
      for (const end of ends) await end();
      await output.flush();
    }
    if (output.error) throw output.error;
    return exit;
  } catch (e) {
    const interrupted = interrupt.signal.aborted && interrupt.signal.reason !== closed;
    if (output.closed && !interrupted && !isLmqError(e)) return exit; // whoever read the output has seen enough
    if (e instanceof CommanderError) {
      if (e.exitCode === 0) return 0;
      if (terminal.json) terminal.result({ error: { code: 'argument/option', message: e.message } });
      return 2;
    }
    terminal.finish();
    const failure = output.error ?? e;
    const code = interrupted ? 130 : exitCode(failure);
    const error = explain(failure, code);
    if (terminal.json) terminal.result({ error });
    terminal.fail(error.message);
    return code;
  } finally {
    process.off('SIGINT', onInterrupt);
    process.off('SIGTERM', onInterrupt);
    terminal.finish();
    await output.end();
  }
}

/** What every subcommand is given. */
export interface Context {
  terminal: Terminal;
  signal: AbortSignal;
  /** Calls `end` when the command is over, however it ended; the last one asked for comes first. */
  atEnd(end: () => unknown): void;
  /** The exit code of a command that has said all that there is to say; 0 when none is given. */
  exitWith(code: number): void;
}

function program(context: Context): Command {
  const { terminal } = context;
  const lmq = new Command('lmq')
    .description(
      'Compress language models: calibrate, quantize, convert, inspect, evaluate, compare, generate.\n<model> is a Hugging Face folder, a .safetensors or .gguf file, an lmq folder, or a built-in model: lmq-nano, lmq-nano-moe.',
    )
    .version(version)
    .option('--json', 'print one JSON object on stdout, for machines')
    .option('--quiet', 'no progress on stderr')
    .exitOverride()
    .configureOutput({ writeErr: (s) => terminal.fail(s.trimEnd()), writeOut: (s) => terminal.out(s) })
    .showHelpAfterError('(lmq <command> --help lists the options)')
    .addHelpText('after', '\nExit codes: 0 ok, 1 failure, 2 usage, 3 invalid input file, 4 quality gate failed, 130 interrupted.');
  addInspect(lmq, context);
  addCalibrate(lmq, context);
  addQuantize(lmq, context);
  addEstimate(lmq, context);
  addEval(lmq, context);
  addCompare(lmq, context);
  addGenerate(lmq, context);
  addConvert(lmq, context);
  addVerify(lmq, context);
  for (const c of lmq.commands)
    c.option('--json', 'print one JSON object on stdout, for machines')
      .option('--quiet', 'no progress on stderr')
      .copyInheritedSettings(lmq);
  return lmq;
}
