// Random importance matrices in the older container, built byte by byte from its description, and damage done to them field by field.
import type { Rng } from '@lmq/tensor';
import { concat, le, utf8 } from './_files.js';

export interface DatEntry {
  name: string;
  calls: number;
  values: Float32Array;
}

const pick = <T>(rng: Rng, list: readonly T[]): T => list[rng.below(list.length)]!;
const NAMES = ['blk.0.attn_q.weight', 'blk.1.ffn_down.weight', 'output.weight', 'blk.0.ffn_up_exps.weight', '語.weight', 'x'];
const COUNTS = [0, 1, 2, 3, 255, 4096, 4097, 1_000_000, 1_000_001, 0x7fffffff, -1, -0x80000000, 0x01000000];
const VALUES = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -1, -1e-30, -0, 3.4e38, 1e-45];

export function randomEntries(rng: Rng): DatEntry[] {
  const names = NAMES.filter(() => rng.below(2));
  return (names.length ? names : [NAMES[0]!]).map((name) => ({
    name,
    calls: rng.below(4),
    values: Float32Array.from({ length: 1 + rng.below(20) }, () => Math.fround(rng.below(1000) / 7)),
  }));
}

type Field = { kind: 'count' | 'text' | 'values'; bytes: Uint8Array };

/** Fields of a file. `tail`: 0 ends after the entries, 1 after the chunks, 2 with the dataset. */
function fieldsOf(entries: readonly DatEntry[], tail: number): Field[] {
  const count = (n: number): Field => ({ kind: 'count', bytes: le(BigInt(n), 4) });
  const text = (s: string): Field[] => [count(utf8(s).length), { kind: 'text', bytes: utf8(s) }];
  const fields = [count(entries.length)];
  for (const { name, calls, values } of entries) {
    fields.push(...text(name), count(calls), count(values.length), { kind: 'values', bytes: new Uint8Array(values.slice().buffer) });
  }
  if (tail > 0) fields.push(count(7));
  if (tail > 1) fields.push(...text('wiki.train.raw'));
  return fields;
}

export const datFile = (entries: readonly DatEntry[], tail: number): Uint8Array => concat(...fieldsOf(entries, tail).map((f) => f.bytes));

/** A file with one or two fields damaged, cut, or followed by something. */
export function hostileDat(rng: Rng): Uint8Array {
  const fields = fieldsOf(randomEntries(rng), rng.below(3));
  for (let n = 1 + rng.below(2); n > 0; n--) {
    const at = rng.below(fields.length);
    const f = fields[at]!;
    const choice = rng.below(5);
    if (choice === 0) fields.splice(at, 1);
    else if (choice === 1) fields.splice(at, 0, pick(rng, fields));
    else if (f.kind === 'count') f.bytes = le(BigInt(pick(rng, COUNTS)), 4);
    else if (f.kind === 'values') {
      const values = new Float32Array(f.bytes.slice().buffer);
      values[rng.below(values.length)] = pick(rng, VALUES);
      f.bytes = new Uint8Array(values.buffer);
    } else f.bytes = rng.below(2) ? utf8(pick(rng, ['__proto__', 'constructor', '', ...NAMES])) : Uint8Array.of(0xff, 0xfe, 0x80);
  }
  const whole = concat(...fields.map((f) => f.bytes));
  const end = rng.below(4);
  if (end === 0) return whole.slice(0, rng.below(whole.length + 1));
  return end === 1 ? concat(whole, new Uint8Array(1 + rng.below(9))) : whole;
}
