/**
 * The one error type of lmq. Code that catches should look at `code`; people read `message`, which says what happened, where, what was
 * expected, what was found and what to do.
 * @module
 */

/** Every code an `LmqError` can carry. The part before the slash says whose fault it is to fix. */
export type ErrorCode =
  | 'argument/shape' // shapes of arguments do not fit each other
  | 'argument/option' // an option is missing, unknown or out of range
  | 'argument/value' // a value is NaN, infinite or otherwise unusable
  | 'handle/freed' // a backend handle was used after its scope was disposed
  | 'handle/foreign' // a backend handle was given to another backend
  | 'backend/memory' // the backend cannot allocate
  | 'backend/unsupported' // the backend cannot run this here
  | 'backend/lost' // a thread of the backend died; its contents are not to be used
  | 'file/missing' // a file does not exist
  | 'file/exists' // an output is already there
  | 'file/io' // the operating system refused
  | 'file/truncated' // a file ends before its contents do
  | 'file/format' // a file breaks its format's rules
  | 'file/limit' // a file asks for more than a reader allows
  | 'model/unsupported' // an architecture or a feature of one that lmq does not run
  | 'model/config' // a model's configuration contradicts itself or its weights
  | 'model/missing' // a tensor that the architecture needs is not in the checkpoint
  | 'tokenizer/unsupported' // a tokenizer that lmq cannot use
  | 'calibration/short' // not enough calibration text
  | 'export/unsupported' // the export format cannot hold the result
  | 'quality/gate'; // a quality bound asked for by the caller was missed

/** The facts behind an error, besides its code. All optional; the message is made of those present. */
export interface ErrorFacts {
  /** The function or command that failed, e.g. `gptq`. */
  op?: string;
  expected?: unknown;
  found?: unknown;
  /** File path or name. */
  file?: string;
  /** Tensor name. */
  tensor?: string;
  /** Byte offset in `file`. */
  offset?: number;
  /** What the reader of the message can do about it. */
  hint?: string;
  cause?: unknown;
}

const BRAND = Symbol.for('lmq.error');

/** Cuts to 80 characters and escapes control characters: names in model files are somebody else's text and end up on terminals. */
export function printable(text: unknown): string {
  const start = asText(text).slice(0, 81); // enough to tell that there is more
  const safe = start.replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, escapeCharacter);
  return safe.length > 80 ? `${safe.slice(0, 77).replace(/[\ud800-\udbff]$/, '')}...` : safe;
}

function escapeCharacter(c: string): string {
  const code = c.codePointAt(0)!.toString(16);
  return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, '0')}`;
}

/** Never throws: an error about a value must not fail on the value. */
function asText(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return Object.prototype.toString.call(value); // cyclic, or holds a bigint
  }
}

/** An error with a `code` from {@link ErrorCode} and the facts that explain it. Test with {@link isLmqError}, not `instanceof`. */
export class LmqError extends Error {
  override readonly name = 'LmqError';
  readonly code: ErrorCode;
  readonly facts: Omit<ErrorFacts, 'cause'>;

  constructor(code: ErrorCode, what: string, facts: ErrorFacts = {}) {
    const { cause, ...rest } = facts;
    super(compose(what, rest), cause === undefined ? undefined : { cause });
    this.code = code;
    this.facts = rest;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** The error as plain data, for `--json` and reports. */
  toJSON(): { code: ErrorCode; message: string } & Omit<ErrorFacts, 'cause'> {
    const facts = { ...this.facts };
    for (const key of ['expected', 'found'] as const) if (typeof facts[key] === 'bigint') facts[key] = String(facts[key]); // not in JSON
    return { code: this.code, message: this.message, ...facts };
  }
}

function compose(what: string, f: ErrorFacts): string {
  const where = [
    f.file !== undefined && `file ${printable(f.file)}`,
    f.tensor !== undefined && `tensor ${printable(f.tensor)}`,
    f.offset !== undefined && `byte ${f.offset}`,
  ].filter(Boolean);
  const parts = [`${f.op ? `${f.op}: ` : ''}${what}`];
  if (where.length) parts[0] += ` (${where.join(', ')})`;
  if (f.expected !== undefined) parts.push(`expected ${printable(f.expected)}`);
  if (f.found !== undefined) parts.push(`found ${printable(f.found)}`);
  return `${parts.join('; ')}${f.hint ? `. ${f.hint}` : ''}`;
}

/** True for an `LmqError`, also one made by another copy of this module. */
export function isLmqError(e: unknown): e is LmqError {
  return typeof e === 'object' && e !== null && (e as Record<symbol, unknown>)[BRAND] === true;
}
