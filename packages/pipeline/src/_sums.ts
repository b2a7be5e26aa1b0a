/**
 * What is summed up of the inputs of linears while windows run.
 * @module
 */
import type { CrossTerm, Hessian } from '@lmq/quant-core';
import type { RangeObservers } from './input-quant.js';

/** Of one input. */
export interface Sums {
  hessian: Hessian;
  crossTerm?: CrossTerm;
  /** For static inputs. */
  ranges?: RangeObservers;
  /** Of a starved input: tokens that reached it. The sums are over all tokens instead, unless its linears have a fallback. */
  reached?: number;
}

/** Frees the sums of several inputs, some of which may share theirs. */
export function disposeSums(sums: Iterable<Sums>): void {
  const each = new Set([...sums].flatMap(({ hessian, crossTerm }) => (crossTerm ? [hessian, crossTerm] : [hessian])));
  for (const sum of each) sum.dispose();
}
