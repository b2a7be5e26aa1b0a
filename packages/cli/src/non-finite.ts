/**
 * `--non-finite`: what becomes of weights that are NaN or infinite, and telling of them.
 * @module
 */
import { type Checkpoint, guardNonFinite, type NonFiniteFound, type NonFinitePolicy } from '@lmq/checkpoints';
import { printable } from '@lmq/tensor';
import { type Command, Option } from 'commander';
import type { Terminal } from './terminal.js';

export interface NonFiniteFlags {
  nonFinite: NonFinitePolicy;
}

export function addNonFinite(c: Command): Command {
  return c.addOption(
    new Option('--non-finite <policy>', 'weights that are NaN or infinite: refuse the model, only say so, or let zeros stand for them')
      .choices(['error', 'warn', 'zero'])
      .default('error'),
  );
}

/** Looks after the models of one command. */
export interface NonFiniteWatch {
  /** The checkpoint under the policy. */
  guard(checkpoint: Checkpoint): Checkpoint;
  /** Says on stderr what was found, each tensor once. */
  onFound(found: NonFiniteFound): void;
  /** What was found, for `--json`; nothing when there was nothing. */
  facts(): { nonFinite?: NonFiniteFound[] };
}

export function watchNonFinite({ nonFinite: policy }: NonFiniteFlags, terminal: Terminal): NonFiniteWatch {
  const seen = new Map<string, NonFiniteFound>();
  const onFound = (found: NonFiniteFound) => {
    const key = JSON.stringify([found.file, found.tensor]);
    if (policy === 'error' || seen.has(key)) return; // an error speaks for itself
    seen.set(key, found);
    const use = policy === 'zero' ? 'zeros stand for them' : 'they are used as they are';
    terminal.say(
      `warning: ${printable(found.file)}: ${printable(found.tensor)} holds ${found.count} values that are NaN or infinite; ${use}`,
    );
  };
  return {
    guard: (checkpoint) => guardNonFinite(checkpoint, policy, onFound),
    onFound,
    facts: () => (seen.size ? { nonFinite: [...seen.values()] } : {}),
  };
}
