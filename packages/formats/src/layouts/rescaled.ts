/**
 * Layout `rescaled`: columns of another tensor multiplied, `w[r][c] = base[r][c] * inputScale[c]`, rounded to float32.
 *
 * The verbs here do what `Layout` (`_layout.ts`) says and trust their arguments; those of `@lmq/formats/verbs` check first.
 * @module
 */
import { LmqError, type Rescaled } from '@lmq/tensor';
import { firstNotFinite } from '../scales.js';
import { expectArray, expectLength, type Verbs } from './_layout.js';

export function decodeRows(t: Rescaled, from: number, to: number, out: Float32Array, nested: Verbs['decodeRows']): void {
  const { inputScale } = t;
  const cols = t.shape[1];
  nested(t.base, from, to, out);
  for (let o = 0; o < (to - from) * cols; o += cols) {
    for (let c = 0; c < cols; c++) out[o + c] *= inputScale[c];
  }
}

export function byteLength(t: Rescaled, nested: Verbs['byteLength']): number {
  return t.inputScale.byteLength + nested(t.base);
}

export function validate(t: Rescaled, at: string, nested: Verbs['validate'], depth: number): void {
  const op = 'validate';
  expectArray(t.inputScale, 'Float32Array', `${at}.inputScale`);
  expectLength(t.inputScale.length, t.shape[1], `${at}.inputScale`);
  const bad = firstNotFinite('fp32', t.inputScale);
  if (bad >= 0) throw new LmqError('argument/value', `${at}.inputScale[${bad}] is not finite`, { op, found: t.inputScale[bad] });
  nested(t.base, `${at}.base`, depth + 1);
  if (t.base.shape[0] !== t.shape[0] || t.base.shape[1] !== t.shape[1]) {
    throw new LmqError('argument/shape', `${at}.base has another shape`, {
      op,
      expected: `[${t.shape.join(', ')}]`,
      found: `[${t.base.shape.join(', ')}]`,
    });
  }
}

export function layoutName(t: Rescaled, nested: Verbs['layoutName']): string {
  return `rescaled(${nested(t.base)})`;
}

export function selectRows(t: Rescaled, index: ArrayLike<number>, nested: Verbs['selectRows']): Rescaled {
  return { ...t, shape: [index.length, t.shape[1]], base: nested(t.base, index) };
}
