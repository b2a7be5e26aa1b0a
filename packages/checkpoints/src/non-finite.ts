/**
 * What to do about weights that are NaN or infinite. Readers keep them bit for bit; this looks at every tensor as it is read.
 * @module
 */
import { countNonFinite, zeroNonFinite } from '@lmq/formats';
import { checkOneOf, LmqError } from '@lmq/tensor';
import type { Checkpoint } from './api.js';

/** `error`: refuse the tensor; `warn`: report it and pass it on; `zero`: report it and put zeros in their place. */
export type NonFinitePolicy = 'error' | 'warn' | 'zero';

/** A tensor that holds NaN or infinity. */
export interface NonFiniteFound {
  tensor: string;
  file: string;
  /** Numbers that are NaN or infinite, among the floats that the tensor stores; a GGUF block counts once. */
  count: number;
}

/**
 * The same checkpoint under a policy. With `warn`, models run it as it is (`Checkpoint.nonFinite`): right where the damage is in rows that
 * are never used, such as those of unused tokens. With `zero`, a GGUF block becomes zeros as a whole.
 * @param onFound called once for each read of such a tensor, also before the error
 * @throws LmqError `argument/option`; `read` throws `argument/value` under `error`
 */
export function guardNonFinite(base: Checkpoint, policy: NonFinitePolicy, onFound?: (found: NonFiniteFound) => void): Checkpoint {
  checkOneOf(policy, 'policy', ['error', 'warn', 'zero'], 'guardNonFinite');
  return {
    format: base.format,
    tensors: base.tensors,
    metadata: base.metadata,
    ...(base.inputs && { inputs: base.inputs }),
    ...(base.warnings && { warnings: base.warnings }),
    ...(policy !== 'error' && { nonFinite: policy }),
    async read(name) {
      const t = await base.read(name);
      const count = countNonFinite(t);
      if (count === 0) return t;
      const { file } = base.tensors.get(name)!;
      onFound?.({ tensor: name, file, count });
      if (policy === 'error') throw nonFinite(name, file, count, 'read');
      return policy === 'zero' ? zeroNonFinite(t) : t;
    },
    close: () => base.close(),
  };
}

/** The report of a tensor that may not be used. */
export function nonFinite(tensor: string, file: string, count: number, op: string): LmqError {
  return new LmqError('argument/value', `the tensor holds ${count} values that are NaN or infinite`, {
    op,
    file,
    tensor,
    hint: "The file is damaged, or its training diverged. Download it again, use another checkpoint, or let zeros stand for them: guardNonFinite(checkpoint, 'zero'), on the command line --non-finite zero.",
  });
}
