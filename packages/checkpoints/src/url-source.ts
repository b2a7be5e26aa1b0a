/**
 * A file on a server as a byte source: HTTP range requests (RFC 9110, section 14), nothing downloaded but what is read.
 *
 * A file that changes between two reads must not become half of each. `If-Range` would see to that, but browsers then ask the server for
 * permission first (CORS preflight), which few grant; so each answer's ETag, Last-Modified and total size are compared with the first ones.
 * @module
 */
import { type ErrorFacts, LmqError } from '@lmq/tensor';
import { allocate, checkRange, fail } from './_checks.js';
import type { ByteSource } from './api.js';

export interface UrlSourceOpts {
  /** Sends the requests. Default: the global `fetch`. */
  fetch?: typeof fetch;
  /** Sent with each request, e.g. `{ authorization: 'Bearer …' }`. */
  headers?: Readonly<Record<string, string>>;
  /** Stops requests, those under way too; they reject with its reason. */
  signal?: AbortSignal;
}

/** What must stay the same for as long as the source is used. */
interface Version {
  size: number;
  etag: string | null;
  modified: string | null;
}

/** Without user, password, query and fragment, which may hold secrets: errors are shown and logged. */
function nameOf(url: URL): string {
  return `${url.origin === 'null' ? url.protocol : url.origin}${url.pathname}`;
}

/** `bytes 0-99/1000` → `[0, 99, 1000]`; for an unsatisfied range `bytes * /0` the first two are -1. */
function contentRange(response: Response): [first: number, last: number, size: number] | undefined {
  const match = /^bytes (?:(\d{1,16})-(\d{1,16})|\*)\/(\d{1,16})$/.exec(response.headers.get('content-range') ?? '');
  if (!match) return undefined;
  const [first, last, size] = match.slice(1).map((digits) => (digits === undefined ? -1 : Number(digits))) as [number, number, number];
  return Number.isSafeInteger(last) && Number.isSafeInteger(size) ? [first, last, size] : undefined;
}

function refuseStatus(response: Response, facts: ErrorFacts): never {
  const found = `status ${response.status}`;
  if (response.status === 404 || response.status === 410)
    fail('file/missing', 'there is no such file', { ...facts, found, hint: 'Check the URL.' });
  if (response.status === 401 || response.status === 403)
    fail('file/io', 'the server refuses access', { ...facts, found, hint: 'Give an access token in `headers`.' });
  if (response.status === 200)
    fail('file/io', 'the server does not serve ranges', { ...facts, found, hint: 'Download the file and open it from disk or as a Blob.' });
  return fail('file/io', 'the server refused', { ...facts, expected: 'status 206', found, hint: 'Try again later.' });
}

/** The body, which must have exactly `length` bytes: no more is ever kept, however much the server sends. */
async function readBody(response: Response, length: number, facts: ErrorFacts): Promise<Uint8Array> {
  const bytes = allocate(length, facts);
  let done = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const piece = await reader?.read();
    if (!piece || piece.done) break;
    if (done + piece.value.byteLength > length) {
      await reader?.cancel().catch(() => {});
      fail('file/io', 'the server sent more than it was asked for', { ...facts, expected: `${length} bytes` });
    }
    bytes.set(piece.value, done);
    done += piece.value.byteLength;
  }
  if (done < length)
    fail('file/truncated', 'the answer ends too early', {
      ...facts,
      expected: `${length} bytes`,
      found: `${done} bytes`,
      hint: 'Try again.',
    });
  return bytes;
}

/**
 * Opens a file on a server for reading by range. Requests are not repeated when they fail. In browsers the server must allow the page
 * to see `Content-Range` (`Access-Control-Expose-Headers`). For a sharded model give this to `openSharded`, once per shard.
 * @throws LmqError `argument/value` for what is not an absolute URL, or holds a password; `file/missing` for 404, `file/io` when the server fails, refuses, does not serve ranges, or serves another file than
 * before; `file/truncated` when an answer ends early
 */
export async function urlSource(url: string | URL, opts: UrlSourceOpts = {}): Promise<ByteSource> {
  const { signal, headers = {} } = opts;
  const send = opts.fetch ?? globalThis.fetch;
  const parsed = typeof url === 'string' && !URL.canParse(url) ? undefined : new URL(url);
  if (!parsed) return fail('argument/value', 'not an absolute URL', { op: 'urlSource', found: url });
  const name = nameOf(parsed);
  if (parsed.username || parsed.password)
    fail('argument/value', 'the URL holds a password', { op: 'urlSource', file: name, hint: 'Give it as an `authorization` header.' });

  /** One range, its body not yet read. */
  const request = async (first: number, last: number, facts: ErrorFacts): Promise<Response> => {
    signal?.throwIfAborted();
    try {
      return await send(parsed, { headers: { ...headers, range: `bytes=${first}-${last}` }, ...(signal ? { signal } : {}) });
    } catch (cause) {
      signal?.throwIfAborted();
      throw new LmqError('file/io', 'the server cannot be reached', { ...facts, hint: 'Check the URL and the connection.', cause });
    }
  };
  /** Runs `use` on an answer; what it does not read is dropped, and a connection that breaks is told as an `LmqError`. */
  const using = async <T>(response: Response, facts: ErrorFacts, use: () => Promise<T> | T): Promise<T> => {
    try {
      return await use();
    } catch (e) {
      await response.body?.cancel().catch(() => {});
      signal?.throwIfAborted();
      if (e instanceof LmqError) throw e;
      throw new LmqError('file/truncated', 'the connection broke', { ...facts, hint: 'Try again.', cause: e });
    }
  };
  const versionOf = (response: Response, size: number): Version => ({
    size,
    etag: response.headers.get('etag'),
    modified: response.headers.get('last-modified'),
  });
  /** The total size, of an answer that is the range that was asked for. */
  const checkedSize = (response: Response, first: number, last: number, facts: ErrorFacts): number => {
    if (response.status !== 206) refuseStatus(response, facts);
    const encoding = response.headers.get('content-encoding') ?? 'identity';
    if (encoding !== 'identity') fail('file/io', 'the server compresses ranges', { ...facts, found: encoding });
    const range = contentRange(response);
    if (!range || range[0] !== first || range[1] !== last || range[2] <= last)
      fail('file/io', 'the server sent another range', {
        ...facts,
        expected: `bytes ${first}-${last}/size`,
        found: response.headers.get('content-range') ?? 'no Content-Range',
      });
    return (range as [number, number, number])[2];
  };

  const probe = { op: 'urlSource', file: name };
  const answer = await request(0, 0, probe);
  const opened = await using(answer, probe, async () => {
    if (answer.status === 416 && contentRange(answer)?.[2] === 0) {
      await answer.body?.cancel();
      return versionOf(answer, 0);
    }
    const size = checkedSize(answer, 0, 0, probe);
    await readBody(answer, 1, probe);
    return versionOf(answer, size);
  });

  const source: ByteSource = {
    name,
    size: opened.size,
    async read(offset, length) {
      checkRange(source, offset, length);
      if (length === 0) return new Uint8Array(0);
      const facts = { op: 'read', file: name, offset };
      const last = offset + length - 1;
      const response = await request(offset, last, facts);
      return using(response, facts, () => {
        const changed = (expected: unknown, found: unknown) =>
          fail('file/io', 'the file on the server has changed', { ...facts, expected, found, hint: 'Open it again.' });
        if (response.status === 416) changed(`${source.size} bytes`, 'a shorter file'); // the range was in the file when it was opened
        const now = versionOf(response, checkedSize(response, offset, last, facts));
        for (const key of ['size', 'etag', 'modified'] as const)
          if (now[key] !== opened[key]) changed(`${key} ${opened[key]}`, now[key] ?? 'none');
        return readBody(response, length, facts);
      });
    },
    async close() {},
  };
  return source;
}
