// Random safetensors files, and damage done to them token by token.
import type { Rng } from '@lmq/tensor';
import { concat, le, utf8 } from './_files.js';
import { damageBytes, randomBytes } from './_mutate-gguf.js';

const BITS: Record<string, number> = { F32: 32, F16: 16, BF16: 16, U8: 8, I64: 64, BOOL: 8, F4: 4, F6_E2M3: 6, F8_E4M3: 8, C64: 64 };

const pick = <T>(rng: Rng, list: readonly T[]): T => list[rng.below(list.length)]!;

const NUMBERS = [
  ...['0', '-0', '-1', '1', '00', '01', '+1', '1.0', '1e0', '.5', '1.', '1e', '-', '0x10', 'NaN', 'Infinity', '4294967296', '4294967297'],
  ...['9007199254740991', '9007199254740992', '9007199254740993', '18446744073709551615', '18446744073709551616', '1e999', '1e-999'],
  ...['99999999999999999999999999999999999999', '1152921504606846976', 'null', 'true', '""', '"1"', '[]', '{}', '[[[[1]]]]', ''],
];
const TEXTS = [
  ...[
    '"__proto__"',
    '"constructor"',
    '"prototype"',
    '"toString"',
    '"__metadata__"',
    '""',
    '"a"',
    '"\\u0061"',
    '"t0"',
    '"\\u00740"',
    '"dtype"',
  ],
  ...[
    '"shape"',
    '"data_offsets"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    '"\\u001b[31m"',
    '"\u001b"',
    '"\\x"',
    '"\\u12"',
    '"é語"',
    "'a'",
  ],
  ...[`"${'n'.repeat(300)}"`, '"F32"', '"F33"', '"f32"', '"U8"', '"F4"', '"Q4_0"', '1', 'null', '"', '\ufeff"a"', '[]'],
];

/** The header as tokens, and the data. */
function randomFile(rng: Rng, uneven = false): { tokens: string[]; data: Uint8Array } {
  const entries: string[][] = [];
  let at = uneven ? rng.below(3) : 0;
  const count = rng.below(6);
  for (let i = 0; i < count; i++) {
    const dtype = pick(rng, Object.keys(BITS));
    const shape = Array.from({ length: rng.below(4) }, () => rng.below(4));
    if (BITS[dtype]! % 8) shape.push(4); // whole bytes
    const end = at + (shape.reduce((a, b) => a * b, 1) * BITS[dtype]!) / 8;
    const list = (items: number[]) => ['[', ...items.flatMap((d, j) => (j ? [',', String(d)] : [String(d)])), ']'];
    const fields = [
      ['"dtype"', ':', `"${dtype}"`],
      ['"shape"', ':', ...list(shape)],
      ['"data_offsets"', ':', ...list([at, end])],
    ];
    if (rng.below(4) === 0) fields.reverse();
    const name = pick(rng, [`"t${i}"`, `"t${i}"`, `"ü${i}"`, `"\\u0074${i}"`, `"a\\"b\\n${i}"`, `"\u{1f600}${i}"`]);
    entries.push([name, ':', '{', ...fields.flatMap((f, j) => (j ? [',', ...f] : f)), '}']);
    at = uneven ? Math.max(0, end + rng.below(5) - 2) : end; // then spans overlap or leave holes, with everything else right
  }
  if (rng.below(3) === 0) {
    const pairs = Array.from({ length: rng.below(3) }, (_, i) => [`"m${i}"`, ':', pick(rng, ['"pt"', '""', '"\\u00e9"', '"語"'])]);
    entries.push(['"__metadata__"', ':', '{', ...pairs.flatMap((p, j) => (j ? [',', ...p] : p)), '}']);
  }
  for (let i = entries.length - 1; i > 0; i--) {
    const j = rng.below(i + 1); // any order is legal in the header
    [entries[i], entries[j]] = [entries[j]!, entries[i]!];
  }
  const tokens = ['{', ...entries.flatMap((e, j) => (j ? [',', ...e] : e)), '}'];
  for (let n = rng.below(3); n > 0; n--) tokens.splice(1 + rng.below(tokens.length), 0, pick(rng, [' ', '\n', '\t ', '   ']));
  return { tokens, data: randomBytes(rng, at) };
}

const isNumber = (t: string) => /^\d/.test(t);
const isText = (t: string) => t.startsWith('"');

function damageTokens(rng: Rng, tokens: string[]): void {
  const i = rng.below(tokens.length);
  const places = (test: (t: string) => boolean) => [...tokens.keys()].filter((k) => test(tokens[k]!));
  const numbers = places(isNumber);
  const texts = places(isText);
  switch (rng.below(9)) {
    case 0:
      tokens.splice(i, 1);
      break;
    case 1:
      tokens.splice(i, 0, tokens[i]!);
      break;
    case 2: {
      const j = rng.below(tokens.length);
      [tokens[i], tokens[j]] = [tokens[j]!, tokens[i]!];
      break;
    }
    case 3:
      if (texts.length) tokens[pick(rng, texts)] = tokens[pick(rng, texts)]!; // a duplicate name, a dtype as a key …
      break;
    case 4:
    case 5:
      if (texts.length) tokens[pick(rng, texts)] = pick(rng, TEXTS);
      break;
    case 6:
      if (numbers.length > 1) {
        const [a, b] = [pick(rng, numbers), pick(rng, numbers)];
        [tokens[a], tokens[b]] = [tokens[b]!, tokens[a]!]; // overlaps, holes, end before begin, another shape
      }
      break;
    case 7:
      if (numbers.length) {
        const k = pick(rng, numbers);
        tokens[k] = String(Number(tokens[k]) + rng.below(5) - 2);
      }
      break;
    default:
      if (numbers.length) tokens[pick(rng, numbers)] = pick(rng, NUMBERS);
  }
}

const LENGTHS: readonly bigint[] = [
  0n,
  1n,
  2n,
  7n,
  8n,
  99_999_999n,
  100_000_001n,
  1n << 32n,
  1n << 53n,
  1n << 62n,
  1n << 63n,
  (1n << 64n) - 1n,
  (1n << 64n) - 8n,
];

/** A safetensors file, damaged or not. */
export function hostileSafetensors(rng: Rng): Uint8Array {
  const build = (file: { tokens: string[]; data: Uint8Array }, length?: bigint) => {
    const json = utf8(file.tokens.join(''));
    return concat(le(length ?? json.length, 8), json, file.data);
  };
  const how = rng.below(9);
  const file = randomFile(rng, how === 8);
  if (how >= 1 && how <= 4) for (let n = 1 + rng.below(2); n > 0; n--) damageTokens(rng, file.tokens);
  if (how === 5) {
    const json = utf8(file.tokens.join('')).length;
    return build(file, rng.below(2) ? pick(rng, LENGTHS) : BigInt(json + rng.below(17) - 8));
  }
  const bytes = build(file);
  return how < 6 || how === 8 ? bytes : damageBytes(rng, bytes, () => build(randomFile(rng)));
}
