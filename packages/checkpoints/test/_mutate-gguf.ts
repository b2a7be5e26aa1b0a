// Random GGUF files, and damage done to them field by field. Built byte by byte from the format's description, without the writer under test.
import type { Rng } from '@lmq/tensor';
import { concat, le, utf8 } from './_files.js';

/** What a piece of the file is, so that damage can be done that a random flip would never find. */
export interface Field {
  kind: 'magic' | 'version' | 'count' | 'length' | 'text' | 'type' | 'value' | 'rank' | 'dim' | 'ttype' | 'offset' | 'padding' | 'data';
  bytes: Uint8Array;
}

interface Key {
  key: string;
  type: number;
  /** The value as fields. */
  value: Field[];
}

interface Tensor {
  name: string;
  /** Fastest first. */
  dims: (number | bigint)[];
  type: number;
  data: Uint8Array;
}

interface Model {
  version: number;
  alignment: number;
  keys: Key[];
  tensors: Tensor[];
}

/** id → elements and bytes per block, from ggml's tables. */
const BLOCKS: Record<number, [number, number]> = {
  0: [1, 4],
  1: [1, 2],
  2: [32, 18],
  8: [32, 34],
  12: [256, 144],
  14: [256, 210],
  24: [1, 1],
  26: [1, 4],
  30: [1, 2],
};
const SCALAR_BYTES: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };

const pick = <T>(rng: Rng, list: readonly T[]): T => list[rng.below(list.length)]!;
export const randomBytes = (rng: Rng, n: number): Uint8Array => Uint8Array.from({ length: n }, () => rng.below(256));

const HOSTILE: readonly bigint[] = [
  ...[0n, 1n, 2n, 3n, 4n, 5n, 7n, 8n, 31n, 32n, 33n, 63n, 64n, 255n, 256n, 65535n, 65536n, 100_001n, 1n << 24n, (1n << 24n) + 1n],
  ...[1n << 31n, (1n << 31n) - 1n, (1n << 32n) - 1n, 1n << 32n, (1n << 32n) + 1n, 1n << 40n, 1n << 52n, (1n << 53n) - 1n, 1n << 53n],
  ...[1n << 60n, (1n << 62n) + 1n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 1n, (1n << 64n) - 32n],
];
const NAMES = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  '',
  'general.alignment',
  'a b',
  '\u0000',
  '\u001b[31m',
  '\ufeffx',
  '語',
  'w'.repeat(63),
  'w'.repeat(64),
];

function randomText(rng: Rng): string {
  return rng.below(4) === 0
    ? pick(rng, ['', 'é', '語', '\u{1f600}', 'line\nline', '\ufeff'])
    : 'abcdefgh.ijkl_mn'.slice(rng.below(8), 8 + rng.below(9));
}

function randomModel(rng: Rng): Model {
  const version = pick(rng, [3, 3, 3, 2, 1]);
  const word = version === 1 ? 4 : 8;
  const string = (s: string): Field[] => [
    { kind: 'length', bytes: le(utf8(s).length, word) },
    { kind: 'text', bytes: utf8(s) },
  ];
  const scalar = (type: number): Field[] => {
    if (type === 8) return string(randomText(rng));
    if (type === 7) return [{ kind: 'value', bytes: Uint8Array.of(rng.below(2)) }];
    return [{ kind: 'value', bytes: randomBytes(rng, SCALAR_BYTES[type]!) }];
  };
  const array = (depth: number): Field[] => {
    const n = rng.below(4);
    const type = depth < 3 && rng.below(5) === 0 ? 9 : pick(rng, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]);
    const items = Array.from({ length: n }, () => (type === 9 ? array(depth + 1) : scalar(type)));
    return [{ kind: 'type', bytes: le(type, 4) }, { kind: 'length', bytes: le(n, word) }, ...items.flat()];
  };
  const keys: Key[] = [];
  for (let i = rng.below(6); i > 0; i--) {
    const type = pick(rng, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    keys.push({ key: `k${i}.${type}`, type, value: type === 9 ? array(1) : scalar(type) });
  }
  let alignment = 32;
  if (rng.below(3) === 0) {
    alignment = pick(rng, [8, 16, 32, 64, 128]);
    keys.splice(rng.below(keys.length + 1), 0, { key: 'general.alignment', type: 4, value: [{ kind: 'value', bytes: le(alignment, 4) }] });
  }
  const tensors = Array.from({ length: rng.below(5) }, (_, i): Tensor => {
    const type = Number(pick(rng, Object.keys(BLOCKS)));
    const [size, bytes] = BLOCKS[type]!;
    const dims = [size * (size > 1 ? 1 : rng.below(6)), ...Array.from({ length: rng.below(3) }, () => rng.below(3))];
    return { name: `t${i}`, dims, type, data: randomBytes(rng, (dims.reduce((a, b) => a * b, 1) / size) * bytes) };
  });
  return { version, alignment, keys, tensors };
}

/** Offsets and padding are those that the (perhaps damaged) model asks for. */
function fieldsOf(m: Model): Field[] {
  const word = m.version === 1 ? 4 : 8;
  const step = m.alignment > 0 && m.alignment <= 1024 ? m.alignment : 32;
  const padded = (n: number) => Math.ceil(n / step) * step;
  const text = (s: string): Field[] => [
    { kind: 'length', bytes: le(utf8(s).length, word) },
    { kind: 'text', bytes: utf8(s) },
  ];
  const fields: Field[] = [
    { kind: 'magic', bytes: utf8('GGUF') },
    { kind: 'version', bytes: le(m.version, 4) },
    { kind: 'count', bytes: le(m.tensors.length, word) },
    { kind: 'count', bytes: le(m.keys.length, word) },
  ];
  for (const k of m.keys) fields.push(...text(k.key), { kind: 'type', bytes: le(k.type, 4) }, ...k.value);
  let offset = 0;
  for (const t of m.tensors) {
    fields.push(...text(t.name), { kind: 'rank', bytes: le(t.dims.length, 4) });
    for (const d of t.dims) fields.push({ kind: 'dim', bytes: le(d, word) });
    fields.push({ kind: 'ttype', bytes: le(t.type, 4) }, { kind: 'offset', bytes: le(offset, 8) });
    offset = padded(offset + t.data.length);
  }
  const header = fields.reduce((n, f) => n + f.bytes.length, 0);
  fields.push({ kind: 'padding', bytes: new Uint8Array(padded(header) - header) });
  for (const t of m.tensors)
    fields.push({ kind: 'data', bytes: t.data }, { kind: 'padding', bytes: new Uint8Array(padded(t.data.length) - t.data.length) });
  return fields;
}

/** Damage that leaves the rest of the file consistent, so that checks behind the first one are reached. */
function damageModel(rng: Rng, m: Model): void {
  const t = m.tensors.length ? pick(rng, m.tensors) : undefined;
  const k = m.keys.length ? pick(rng, m.keys) : undefined;
  switch (rng.below(8)) {
    case 0:
      if (k) m.keys.push({ ...k, key: rng.below(2) ? k.key : `${k.key}2` }); // a duplicate key, or not
      break;
    case 1:
      if (k) k.key = pick(rng, NAMES);
      break;
    case 2: {
      const alignment = pick(rng, [0, 1, 2, 3, 4, 8, 24, 48, 512, 2 ** 20, 2 ** 21, 2 ** 31]);
      m.alignment = alignment;
      m.keys = m.keys.filter((x) => x.key !== 'general.alignment');
      m.keys.push({ key: 'general.alignment', type: pick(rng, [4, 4, 4, 5, 10]), value: [{ kind: 'value', bytes: le(alignment, 4) }] });
      break;
    }
    case 3:
      if (t) m.tensors.push({ ...t, name: rng.below(2) ? t.name : `${t.name}.copy` });
      break;
    case 4:
      if (t) t.name = pick(rng, NAMES);
      break;
    case 5:
      if (t?.dims.length) t.dims[rng.below(t.dims.length)] = pick(rng, HOSTILE);
      break;
    case 6:
      if (t) t.dims = [...t.dims, ...Array.from({ length: 1 + rng.below(4) }, () => pick(rng, [1, 1, 2, 1n << 32n, 0]))];
      break;
    default:
      if (t) t.type = pick(rng, [0, 1, 2, 3, 4, 5, 8, 12, 30, 31, 39, 41, 255]);
  }
}

/** Other bytes for a field, with its meaning in mind. */
function damageField(rng: Rng, fields: Field[]): void {
  const i = rng.below(fields.length);
  const f = fields[i]!;
  const size = f.bytes.length;
  switch (rng.below(6)) {
    case 0:
      fields.splice(i, 1);
      break;
    case 1:
      fields.splice(i, 0, f);
      break;
    case 2: {
      const j = rng.below(fields.length);
      [fields[i], fields[j]] = [fields[j]!, f];
      break;
    }
    default:
      if (f.kind === 'text' || f.kind === 'data' || f.kind === 'padding' || f.kind === 'magic' || size === 0) {
        const text = pick(rng, [
          utf8(pick(rng, NAMES)),
          randomBytes(rng, size),
          Uint8Array.of(0xc3, 0x28),
          Uint8Array.of(0xed, 0xa0, 0x80),
        ]);
        fields[i] = { ...f, bytes: f.kind === 'text' ? text : randomBytes(rng, rng.below(2) ? size : rng.below(70)) };
      } else if (f.kind === 'type' || f.kind === 'ttype' || f.kind === 'rank' || f.kind === 'version')
        fields[i] = { ...f, bytes: le(rng.below(16), size) };
      else {
        const old = f.bytes.reduceRight((n, b) => (n << 8n) | BigInt(b), 0n);
        fields[i] = { ...f, bytes: le(rng.below(3) ? pick(rng, HOSTILE) : old + BigInt(rng.below(5) - 2), size) };
      }
  }
}

/** A GGUF file, damaged or not: what `kinds` of damage, and the bytes. */
export function hostileGguf(rng: Rng): Uint8Array {
  const model = randomModel(rng);
  const how = rng.below(8);
  if (how === 1 || how === 2 || how === 7) for (let n = 1 + rng.below(2); n > 0; n--) damageModel(rng, model);
  const fields = fieldsOf(model);
  if (how === 3 || how === 4 || how === 7) for (let n = 1 + rng.below(2); n > 0; n--) damageField(rng, fields);
  const bytes = concat(...fields.map((f) => f.bytes));
  if (how < 5) return bytes; // how 0: a valid file
  return damageBytes(rng, bytes, () => concat(...fieldsOf(randomModel(rng)).map((f) => f.bytes)));
}

/** Flips, cuts, insertions and pieces of another file. */
export function damageBytes(rng: Rng, clean: Uint8Array, another: () => Uint8Array): Uint8Array {
  const bytes = clean.slice();
  if (bytes.length === 0) return bytes;
  switch (rng.below(6)) {
    case 0:
      return bytes.slice(0, rng.below(bytes.length));
    case 1:
      return concat(bytes, randomBytes(rng, 1 + rng.below(80)));
    case 2: {
      const other = another();
      const at = rng.below(bytes.length);
      const from = rng.below(other.length + 1);
      return concat(bytes.slice(0, at), other.slice(from, from + rng.below(64)), bytes.slice(Math.min(bytes.length, at + rng.below(64))));
    }
    case 3: {
      const at = rng.below(bytes.length);
      bytes.set(le(pick(rng, HOSTILE), 8).slice(0, Math.min(8, bytes.length - at)), at);
      return bytes;
    }
    default: {
      const near = rng.below(2) ? bytes.length : Math.min(bytes.length, 200);
      for (let flips = 1 + rng.below(3); flips > 0; flips--) bytes[rng.below(near)]! ^= 1 << rng.below(8);
      return bytes;
    }
  }
}
