/**
 * Layout `sum`: the terms added in their order, each sum rounded to float32.
 *
 * The verbs here do what `Layout` (`_layout.ts`) says and trust their arguments; those of `@lmq/formats/verbs` check first.
 * @module
 */
import { LmqError, type Sum } from '@lmq/tensor';
import type { Verbs } from './_layout.js';

export function decodeRows(t: Sum, from: number, to: number, out: Float32Array, nested: Verbs['decodeRows']): void {
  const n = (to - from) * t.shape[1];
  nested(t.terms[0], from, to, out);
  const term = new Float32Array(t.terms.length > 1 ? n : 0);
  for (let k = 1; k < t.terms.length; k++) {
    nested(t.terms[k], from, to, term);
    for (let i = 0; i < n; i++) out[i] += term[i];
  }
}

export function byteLength(t: Sum, nested: Verbs['byteLength']): number {
  return t.terms.reduce((sum, term) => sum + nested(term), 0);
}

export function validate(t: Sum, at: string, nested: Verbs['validate'], depth: number): void {
  if (!(Array.isArray(t.terms) && t.terms.length > 0)) {
    throw new LmqError('argument/shape', `${at}.terms is empty`, { op: 'validate', expected: 'at least one term' });
  }
  t.terms.forEach((term, i) => {
    nested(term, `${at}.terms[${i}]`, depth + 1);
    if (term.shape[0] !== t.shape[0] || term.shape[1] !== t.shape[1]) {
      throw new LmqError('argument/shape', `${at}.terms[${i}] has another shape than the sum`, {
        op: 'validate',
        expected: `[${t.shape.join(', ')}]`,
        found: `[${term.shape.join(', ')}]`,
      });
    }
  });
}

export function layoutName(t: Sum, nested: Verbs['layoutName']): string {
  return `sum(${t.terms.map((term) => nested(term)).join(' + ')})`;
}

export function selectRows(t: Sum, index: ArrayLike<number>, nested: Verbs['selectRows']): Sum {
  return { ...t, shape: [index.length, t.shape[1]], terms: t.terms.map((term) => nested(term, index)) };
}
