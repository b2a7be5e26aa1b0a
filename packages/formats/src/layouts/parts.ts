/**
 * Layout `parts`: disjoint slices along one axis that together cover it. Row (or column) i of a slice goes to `index[i]`.
 *
 * The verbs here do what `Layout` (`_layout.ts`) says and trust their arguments; those of `@lmq/formats/verbs` check first.
 * @module
 */
import { LmqError, type Parts } from '@lmq/tensor';
import { expectArray, type Verbs } from './_layout.js';

export function decodeRows(t: Parts, from: number, to: number, out: Float32Array, nested: Verbs['decodeRows']): void {
  if (t.axis === 'out') decodeRowParts(t, from, to, out, nested);
  else decodeColumnParts(t, from, to, out, nested);
}

function decodeColumnParts(t: Parts, from: number, to: number, out: Float32Array, nested: Verbs['decodeRows']): void {
  const cols = t.shape[1];
  for (const { index, base } of t.parts) {
    const width = index.length;
    const slice = new Float32Array((to - from) * width);
    nested(base, from, to, slice);
    for (let r = 0; r < to - from; r++) {
      for (let i = 0; i < width; i++) out[r * cols + index[i]] = slice[r * width + i];
    }
  }
}

/** Runs of neighbouring rows are decoded straight into their place. */
function decodeRowParts(t: Parts, from: number, to: number, out: Float32Array, nested: Verbs['decodeRows']): void {
  const cols = t.shape[1];
  for (const { index, base } of t.parts) {
    for (let i = 0; i < index.length; ) {
      const row = index[i];
      let end = i + 1;
      if (row >= from && row < to) {
        while (end < index.length && index[end] === row + end - i && index[end] < to) end++;
        nested(base, i, end, out.subarray((row - from) * cols, (row - from + end - i) * cols));
      }
      i = end;
    }
  }
}

export function byteLength(t: Parts, nested: Verbs['byteLength']): number {
  return t.parts.reduce((sum, p) => sum + p.index.byteLength + nested(p.base), 0);
}

export function validate(t: Parts, at: string, nested: Verbs['validate'], depth: number): void {
  const op = 'validate';
  if (t.axis !== 'out' && t.axis !== 'in') {
    throw new LmqError('argument/value', `${at}.axis is unknown`, { op, expected: 'out, in', found: t.axis });
  }
  const n = t.axis === 'out' ? t.shape[0] : t.shape[1];
  t.parts.forEach((p, k) => {
    expectArray(p.index, 'Uint32Array', `${at}.parts[${k}].index`);
    nested(p.base, `${at}.parts[${k}].base`, depth + 1);
    const want = t.axis === 'out' ? [p.index.length, t.shape[1]] : [t.shape[0], p.index.length];
    if (p.base.shape[0] !== want[0] || p.base.shape[1] !== want[1]) {
      throw new LmqError('argument/shape', `${at}.parts[${k}].base has the wrong shape`, {
        op,
        expected: `[${want.join(', ')}]`,
        found: `[${p.base.shape.join(', ')}]`,
      });
    }
  });
  const covered = t.parts.reduce((sum, p) => sum + p.index.length, 0);
  if (covered !== n) {
    throw new LmqError('argument/shape', `${at}.parts do not cover axis ${t.axis}`, { op, expected: n, found: covered });
  }
  const taken = new Uint8Array(n); // n is bounded by the indices in memory
  t.parts.forEach((p, k) => {
    for (const i of p.index) {
      if (i >= n || taken[i]) {
        throw new LmqError('argument/value', `${at}.parts[${k}].index ${i >= n ? 'leaves the axis' : 'takes a slice twice'}`, {
          op,
          expected: `each of 0 … ${n - 1} once`,
          found: i,
        });
      }
      taken[i] = 1;
    }
  });
}

export function layoutName(t: Parts, nested: Verbs['layoutName']): string {
  return `parts(${t.axis}: ${t.parts.map((p) => `${p.index.length} x ${nested(p.base)}`).join(', ')})`;
}

/** Along `out`, parts that lose all their rows are dropped. Slices keep the order of their rows, so that scales shared by rows stay so. */
export function selectRows(t: Parts, index: ArrayLike<number>, nested: Verbs['selectRows']): Parts {
  const shape: Parts['shape'] = [index.length, t.shape[1]];
  if (t.axis === 'in') {
    return { ...t, shape, parts: t.parts.map((p) => ({ index: p.index, base: nested(p.base, index) })) };
  }
  const wanted = new Map<number, number[]>(); // row → where it goes
  for (let i = 0; i < index.length; i++) {
    const to = wanted.get(index[i]);
    if (to) to.push(i);
    else wanted.set(index[i], [i]);
  }
  const parts = t.parts.flatMap((p) => {
    const to: number[] = [];
    const rows: number[] = [];
    p.index.forEach((row, slice) => {
      for (const i of wanted.get(row) ?? []) {
        to.push(i);
        rows.push(slice);
      }
    });
    return rows.length ? [{ index: Uint32Array.from(to), base: nested(p.base, rows) }] : [];
  });
  return { ...t, shape, parts };
}
