/**
 * A pull parser for JSON in untrusted files (RFC 8259). `JSON.parse` drops duplicate keys and rounds large integers in silence; here both
 * are errors, and every error knows its byte. Nothing is ever stored under a name that reaches a prototype.
 *
 * It reads UTF-8 bytes, so that offsets are the file's.
 * @module
 */
import type { ErrorFacts } from '@lmq/tensor';
import { fail, isReserved } from './_checks.js';

const MAX_DEPTH = 64;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;
const MINUS = 0x2d;
const ESCAPES = new Map<number, string>([
  [QUOTE, '"'],
  [BACKSLASH, '\\'],
  [0x2f, '/'],
  [0x62, '\b'],
  [0x66, '\f'],
  [0x6e, '\n'],
  [0x72, '\r'],
  [0x74, '\t'],
]);

export interface JsonReader {
  /** Byte in the file of the next value. */
  position(): number;
  /**
   * Reads an object; the callback must read each value. Duplicate and reserved keys are errors.
   * @param known tells which keys came before, where the caller keeps them anyway; a large object then costs no second table
   */
  object(onEntry: (key: string, at: number) => void, known?: (key: string) => boolean): void;
  /** Reads an array; the callback must read each item. */
  array(onItem: (index: number) => void): void;
  string(): string;
  /** An integer from 0 to 2^53 - 1, written without sign, point or exponent. */
  count(): number;
  /** Any value. Objects have no prototype; integers beyond 2^53 are errors. */
  value(): unknown;
  /** Moves on past exactly these ASCII characters, white space not skipped; false, and nothing moved, when something else is there. */
  literal(text: string): boolean;
  /** Back to a `position` of this document, outside of all objects and arrays entered since. */
  rewind(position: number): void;
  /** Nothing but white space may follow. */
  end(): void;
  /** Throws `file/format` at the current byte. */
  fail(what: string, facts?: ErrorFacts): never;
}

export interface JsonReaderOpts {
  op: string;
  file: string;
  /** Byte of the file at which the JSON begins. Default 0. */
  base?: number;
}

/** The bytes as text when each is one character, else `undefined`. */
function asciiText(bytes: Uint8Array): string | undefined {
  for (let i = 0; i < bytes.length; i++) if (bytes[i]! > 0x7f) return undefined;
  return new TextDecoder().decode(bytes);
}

/** Starts at the first byte of a JSON document. */
export function createJsonReader(bytes: Uint8Array, { op, file, base = 0 }: JsonReaderOpts): JsonReader {
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const { length } = bytes;
  let at = 0;
  let depth = 0;

  const bad = (what: string, facts: ErrorFacts = {}): never => fail('file/format', what, { op, file, offset: base + at, ...facts });
  const skipSpace = () => {
    for (;;) {
      const c = bytes[at];
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
      at++;
    }
  };
  const peek = () => {
    skipSpace();
    return bytes[at];
  };
  const shown = () => (at >= bytes.length ? 'the end' : String.fromCharCode(bytes[at]!));
  const expect = (byte: number, what: string) => {
    if (peek() !== byte) bad('the JSON is malformed', { expected: what, found: shown() });
    at++;
  };
  // headers are ASCII as a rule: then one decoding serves all strings, which is several times faster than one each
  const ascii = asciiText(bytes);
  const decode = (from: number, to: number): string => {
    if (ascii !== undefined) return ascii.slice(from, to);
    try {
      return utf8.decode(bytes.subarray(from, to));
    } catch {
      return bad('a string is not valid UTF-8', { offset: base + from });
    }
  };
  const hex4 = (): number => {
    let code = 0;
    for (let i = 0; i < 4; i++) {
      const c = bytes[at++] ?? 0;
      const digit = c >= 0x30 && c <= 0x39 ? c - 0x30 : (c | 32) >= 0x61 && (c | 32) <= 0x66 ? (c | 32) - 0x57 : -1;
      if (digit < 0) {
        at--;
        bad('an escape needs four hexadecimal digits', { found: shown() });
      }
      code = code * 16 + digit;
    }
    return code;
  };
  const escaped = (): string => {
    const start = at;
    at++; // the backslash
    const c = bytes[at++] ?? 0;
    const simple = ESCAPES.get(c);
    if (simple !== undefined) return simple;
    if (c !== 0x75) bad('an escape is unknown', { offset: base + start });
    const high = hex4();
    if (high < 0xd800 || high > 0xdfff) return String.fromCharCode(high);
    if (high > 0xdbff || bytes[at] !== BACKSLASH || bytes[at + 1] !== 0x75) bad('half a surrogate pair', { offset: base + start });
    at += 2;
    const low = hex4();
    if (low < 0xdc00 || low > 0xdfff) bad('half a surrogate pair', { offset: base + start });
    return String.fromCharCode(high, low);
  };
  const string = (): string => {
    expect(QUOTE, 'a string');
    let from = at;
    let text = '';
    for (;;) {
      let c = 0;
      while (at < length) {
        c = bytes[at]!;
        if (c === QUOTE || c === BACKSLASH || c < 0x20) break;
        at++;
      }
      if (at >= length) return bad('a string does not end');
      if (c === QUOTE) {
        const tail = from === at ? '' : decode(from, at);
        at++;
        return text === '' ? tail : text + tail;
      }
      if (c !== BACKSLASH) bad('a control character in a string');
      text += decode(from, at) + escaped();
      from = at;
    }
  };
  const digits = (): number => {
    const from = at;
    while (bytes[at]! >= 0x30 && bytes[at]! <= 0x39) at++;
    if (at === from) bad('a number needs digits', { found: shown() });
    return at - from;
  };
  /** Reads a number; returns its text and whether it was written as an integer. */
  const numeral = (): { text: string; integer: boolean; start: number } => {
    skipSpace();
    const start = at;
    if (bytes[at] === MINUS) at++;
    const first = bytes[at];
    if (digits() > 1 && first === 0x30) bad('a number begins with 0', { offset: base + start });
    let integer = true;
    if (bytes[at] === 0x2e) {
      integer = false;
      at++;
      digits();
    }
    if (bytes[at] === 0x65 || bytes[at] === 0x45) {
      integer = false;
      at++;
      if (bytes[at] === 0x2b || bytes[at] === MINUS) at++;
      digits();
    }
    return { text: decode(start, at), integer, start };
  };
  const number = (): number => {
    const { text, integer, start } = numeral();
    const n = Number(text);
    if (integer ? !Number.isSafeInteger(n) : !Number.isFinite(n))
      bad('a number is too large to be exact', { offset: base + start, found: text });
    return n;
  };
  const count = (): number => {
    // headers are full of short counts: 15 digits and less are exact, and need no text
    skipSpace();
    const from = at;
    let quick = 0;
    while (at - from < 16 && bytes[at]! >= 0x30 && bytes[at]! <= 0x39) quick = quick * 10 + bytes[at++]! - 0x30;
    const next = bytes[at];
    const whole = next === COMMA || next === CLOSE_BRACKET || next === CLOSE_BRACE || next === 0x20;
    if (whole && at > from && at - from < 16 && (bytes[from] !== 0x30 || at === from + 1)) return quick;
    at = from; // rare or wrong: read it again, carefully
    const { text, integer, start } = numeral();
    const n = Number(text);
    if (!integer || text.startsWith('-') || !Number.isSafeInteger(n))
      bad('not a count', { offset: base + start, expected: 'an integer from 0 to 2^53 - 1', found: text });
    return n;
  };
  const enter = () => {
    if (++depth > MAX_DEPTH)
      fail('file/limit', 'the JSON is nested too deep', { op, file, offset: base + at, expected: `at most ${MAX_DEPTH}` });
  };
  const object = (onEntry: (key: string, at: number) => void, known?: (key: string) => boolean): void => {
    expect(OPEN_BRACE, 'an object');
    enter();
    const few: string[] = []; // most objects have a handful of keys, for which a set costs more than it saves
    let many: Set<string> | undefined;
    if (peek() === CLOSE_BRACE) at++;
    else {
      for (;;) {
        skipSpace();
        const start = base + at;
        const key = string();
        if (known ? known(key) : many ? many.has(key) : few.includes(key)) bad('a key appears twice', { offset: start, found: key });
        if (isReserved(key)) bad('a key is a reserved name', { offset: start, found: key });
        if (many) many.add(key);
        else if (!known && few.push(key) > 8) many = new Set(few);
        expect(COLON, 'a colon');
        onEntry(key, start);
        if (peek() === COMMA) {
          at++;
          continue;
        }
        expect(CLOSE_BRACE, 'a comma or the end of the object');
        break;
      }
    }
    depth--;
  };
  const array = (onItem: (index: number) => void): void => {
    expect(OPEN_BRACKET, 'an array');
    enter();
    if (peek() === CLOSE_BRACKET) at++;
    else {
      for (let i = 0; ; i++) {
        onItem(i);
        if (peek() === COMMA) {
          at++;
          continue;
        }
        expect(CLOSE_BRACKET, 'a comma or the end of the array');
        break;
      }
    }
    depth--;
  };
  const word = <T>(text: string, result: T): T => {
    for (let i = 0; i < text.length; i++)
      if (bytes[at + i] !== text.charCodeAt(i)) bad('the JSON is malformed', { expected: 'a value', found: shown() });
    at += text.length;
    return result;
  };
  const value = (): unknown => {
    switch (peek()) {
      case OPEN_BRACE: {
        const out: Record<string, unknown> = Object.create(null);
        object((key) => {
          out[key] = value();
        });
        return out;
      }
      case OPEN_BRACKET: {
        const out: unknown[] = [];
        array(() => out.push(value()));
        return out;
      }
      case QUOTE:
        return string();
      case 0x74:
        return word('true', true);
      case 0x66:
        return word('false', false);
      case 0x6e:
        return word('null', null);
      default:
        return number();
    }
  };
  return {
    position() {
      skipSpace();
      return base + at;
    },
    object,
    array,
    string,
    count,
    value,
    literal(text) {
      for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
      at += text.length;
      return true;
    },
    rewind(position) {
      at = position - base;
    },
    end() {
      skipSpace();
      if (at < bytes.length) bad('something follows the JSON', { found: shown() });
    },
    fail: bad,
  };
}

/**
 * Reads a whole JSON document of an untrusted file, where `JSON.parse` would let pass what is lost or dangerous: keys that appear twice or
 * reach a prototype, and integers beyond 2^53, are errors. Objects have no prototype.
 * @param file its name, for errors
 * @param op the caller's name, for errors
 * @throws LmqError `file/format`, `file/limit` (nesting), with the byte offset
 */
export function parseJson(text: string, file: string, op: string): unknown {
  const reader = createJsonReader(new TextEncoder().encode(text), { op, file });
  const result = reader.value();
  reader.end();
  return result;
}
