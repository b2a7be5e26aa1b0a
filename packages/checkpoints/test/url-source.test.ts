// A server on this machine, well-behaved or not, and the browser's own kinds of files.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { TensorToWrite } from '../src/api.js';
import { openGguf } from '../src/gguf.js';
import { writeGguf } from '../src/gguf-write.js';
import { openSafetensors } from '../src/safetensors.js';
import { writeSafetensors } from '../src/safetensors-write.js';
import { openSharded } from '../src/sharded.js';
import { blobSource, memorySink } from '../src/sources.js';
import { type UrlSourceOpts, urlSource } from '../src/url-source.js';
import { expectFailure, failure } from './_files.js';

const CONTENT = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);

type Handler = (request: IncomingMessage, response: ServerResponse, range: [number, number] | undefined) => void;
let handler: Handler = () => {};
let requests: string[] = [];
let server: Server;
let base = '';

beforeAll(async () => {
  server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`);
    const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    handler(request, response, match ? [Number(match[1]), Number(match[2])] : undefined);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  return new Promise<void>((done) => server.close(() => done()));
});
afterEach(() => {
  requests = [];
});

/** Serves ranges of `bytes` as RFC 9110 says. */
const serving =
  (bytes: Uint8Array, headers: Record<string, string> = { etag: '"1"' }): Handler =>
  (_, response, range) => {
    if (!range) return void response.writeHead(200, headers).end(bytes);
    const [first, last] = [range[0], Math.min(range[1], bytes.length - 1)];
    if (first >= bytes.length) return void response.writeHead(416, { ...headers, 'content-range': `bytes */${bytes.length}` }).end();
    response.writeHead(206, { ...headers, 'content-range': `bytes ${first}-${last}/${bytes.length}` }).end(bytes.subarray(first, last + 1));
  };

const open = (path = '/f', opts?: UrlSourceOpts) => urlSource(base + path, opts);

describe('urlSource', () => {
  it('reads by range and nothing else', async () => {
    handler = serving(CONTENT);
    const source = await open('/a/model.safetensors?token=secret#x');
    expect(source.size).toBe(1000);
    expect(source.name).toBe(`${base}/a/model.safetensors`); // what may be secret is in no message
    const [a, b] = await Promise.all([source.read(0, 10), source.read(990, 10)]);
    expect([a, b]).toEqual([CONTENT.slice(0, 10), CONTENT.slice(990)]);
    expect(await source.read(1000, 0)).toEqual(new Uint8Array(0));
    expect(requests.sort()).toEqual([0, 0, 990].map((n, i) => `GET /a/model.safetensors?token=secret bytes=${n}-${[0, 9, 999][i]}`));
    await expectFailure(() => source.read(995, 6), 'file/truncated', { offset: 995, file: source.name });
    expect(requests).toHaveLength(3);
    await source.close();
  });

  it('opens models, shards too, without reading their data', async () => {
    const tensor = (name: string): TensorToWrite => ({ name, shape: [50_000], dtype: 'F32', bytes: () => new Uint8Array(200_000).fill(7) });
    const file = async (...names: string[]) => {
      const sink = memorySink();
      await writeSafetensors(sink, names.map(tensor));
      return sink.bytes();
    };
    const gguf = memorySink();
    await writeGguf(gguf, { metadata: [], tensors: ['x', 'y', 'z'].map(tensor) });
    const files: Record<string, Uint8Array> = {
      '/a.safetensors': await file('a', 'b'),
      '/c.safetensors': await file('c'),
      '/m.gguf': gguf.bytes(),
    };
    let sent = 0;
    handler = (request, response, range) => {
      sent += range![1] - range![0] + 1;
      serving(files[request.url!]!)(request, response, range);
    };
    const single = await openSafetensors(await open('/a.safetensors'));
    expect([...single.tensors.keys()]).toEqual(['a', 'b']);
    expect(sent).toBeLessThan(500);
    expect(await single.readBytes('b', 4, 8)).toEqual(new Uint8Array(4).fill(7));
    expect(sent).toBeLessThan(500);
    const index = '{"weight_map":{"a":"a.safetensors","b":"a.safetensors","c":"c.safetensors"}}';
    const sharded = await openSharded(index, `${base}/index.json`, (name) => urlSource(new URL(name, base)));
    expect((await sharded.read('c')).shape).toEqual([1, 50_000]);
    const model = await openGguf(await open('/m.gguf'));
    expect((await model.readBytes('z')).length).toBe(200_000);
  });

  it('reads an empty file', async () => {
    handler = serving(new Uint8Array(0));
    const source = await open();
    expect(source.size).toBe(0);
    await expectFailure(() => source.read(0, 1), 'file/truncated');
  });

  it('sends headers, and uses the fetch it is given', async () => {
    let seen: unknown;
    handler = (request, response, range) => {
      seen = request.headers.authorization;
      serving(CONTENT)(request, response, range);
    };
    let calls = 0;
    const own: typeof fetch = (...args) => {
      calls++;
      return fetch(...args);
    };
    const source = await open('/f', { headers: { authorization: 'Bearer x' }, fetch: own });
    await source.read(0, 1);
    expect([seen, calls]).toEqual(['Bearer x', 2]);
  });

  it.each<[string, Handler, string, Record<string, unknown>]>([
    ['a server without ranges', (_, r) => r.writeHead(200).end(CONTENT), 'file/io', { found: 'status 200' }],
    ['a file that is not there', (_, r) => r.writeHead(404).end('no'), 'file/missing', { found: 'status 404' }],
    ['a file that needs a token', (_, r) => r.writeHead(401).end(), 'file/io', { hint: 'Give an access token in `headers`.' }],
    ['a server in trouble', (_, r) => r.writeHead(503).end(), 'file/io', { found: 'status 503' }],
    ['an answer without Content-Range', (_, r) => r.writeHead(206).end('x'), 'file/io', { found: 'no Content-Range' }],
    ['an unknown size', (_, r) => r.writeHead(206, { 'content-range': 'bytes 0-0/*' }).end('x'), 'file/io', { found: 'bytes 0-0/*' }],
    ['another range', (_, r) => r.writeHead(206, { 'content-range': 'bytes 1-1/9' }).end('x'), 'file/io', { found: 'bytes 1-1/9' }],
    ['a size of 10^16', (_, r) => r.writeHead(206, { 'content-range': 'bytes 0-0/9999999999999999' }).end('x'), 'file/io', {}],
    [
      'more than was asked for',
      (_, r) => r.writeHead(206, { 'content-range': 'bytes 0-0/9' }).end('xy'),
      'file/io',
      { expected: '1 bytes' },
    ],
    ['less than was asked for', (_, r) => r.writeHead(206, { 'content-range': 'bytes 0-0/9' }).end(), 'file/truncated', {}],
    [
      'a compressed answer',
      (_, r) => r.writeHead(206, { 'content-range': 'bytes 0-0/9', 'content-encoding': 'x-own' }).end('x'),
      'file/io',
      { found: 'x-own' },
    ],
    ['a connection that is refused', (_, r) => r.socket!.destroy(), 'file/io', {}],
  ])('refuses %s', async (_, bad, code, facts) => {
    handler = bad;
    await expectFailure(() => open(), code as never, { op: 'urlSource', file: `${base}/f`, ...facts });
    expect(requests).toHaveLength(1); // no second try
  });

  it('says when an answer ends early', async () => {
    handler = serving(CONTENT);
    const source = await open();
    handler = (_, response, range) => {
      response.writeHead(206, { etag: '"1"', 'content-range': `bytes ${range![0]}-${range![1]}/1000` });
      response.write(CONTENT.subarray(0, 5)); // chunked: the client cannot know how long it should be
      response.end();
    };
    await expectFailure(() => source.read(100, 50), 'file/truncated', { offset: 100, expected: '50 bytes', found: '5 bytes' });
    handler = (_, response, range) => {
      response.writeHead(206, { etag: '"1"', 'content-range': `bytes ${range![0]}-${range![1]}/1000`, 'content-length': '50' });
      response.write(CONTENT.subarray(0, 5), () => response.socket!.destroy());
    };
    await expectFailure(() => source.read(100, 50), 'file/truncated', { offset: 100 });
  });

  it.each<[string, Handler, Handler]>([
    ['its ETag', serving(CONTENT, { etag: '"1"' }), serving(CONTENT, { etag: '"2"' })],
    ['an ETag that is gone', serving(CONTENT, { etag: '"1"' }), serving(CONTENT, {})],
    [
      'its date',
      serving(CONTENT, { 'last-modified': 'Mon, 01 Jan 2024 00:00:00 GMT' }),
      serving(CONTENT, { 'last-modified': 'Tue, 02 Jan 2024 00:00:00 GMT' }),
    ],
    ['its size', serving(CONTENT, {}), serving(CONTENT.slice(0, 900), {})],
    ['a file that is too short now', serving(CONTENT, {}), serving(CONTENT.slice(0, 50), {})],
  ])('sees that the file has changed by %s', async (_, before, after) => {
    handler = before;
    const source = await open();
    await source.read(0, 10);
    handler = after;
    const e = await expectFailure(() => source.read(100, 10), 'file/io', { offset: 100, hint: 'Open it again.' });
    expect(e.message).toContain('has changed');
  });

  it('stops by its signal', async () => {
    handler = serving(CONTENT);
    const abort = new AbortController();
    const source = await open('/f', { signal: abort.signal });
    handler = () => abort.abort(new Error('stop')); // and no answer
    await expect(source.read(0, 10)).rejects.toThrow('stop');
    const count = requests.length;
    await expect(source.read(0, 10)).rejects.toThrow('stop');
    expect(requests).toHaveLength(count);
  });

  it('takes only URLs', async () => {
    await expectFailure(() => urlSource('model.safetensors'), 'argument/value', { found: 'model.safetensors' });
    expect((await failure(() => urlSource('http://127.0.0.1:1/f'))).code).toBe('file/io'); // nothing listens there
    const secret = await expectFailure(() => urlSource('http://user:password@127.0.0.1:1/f?key=1'), 'argument/value');
    expect(secret.message).not.toMatch(/user:|:password|key=/);
  });
});

describe('blobSource', () => {
  it('reads a File, as inputs of browsers give it', async () => {
    const sink = memorySink();
    await writeGguf(sink, { metadata: [], tensors: [{ name: 'x', shape: [4], dtype: 'F32', bytes: () => new Uint8Array(16).fill(1) }] });
    const file = new File([sink.bytes().slice()], 'model.gguf');
    const model = await openGguf(blobSource(file, file.name));
    expect(await model.readBytes('x', 2, 6)).toEqual(new Uint8Array(4).fill(1));
    await expectFailure(() => blobSource(file, file.name).read(file.size - 1, 2), 'file/truncated', { file: 'model.gguf' });
  });

  it('says when the file under it has changed', async () => {
    const gone = { size: 10, slice: () => ({ arrayBuffer: () => Promise.reject(new DOMException('gone', 'NotReadableError')) }) };
    await expectFailure(() => blobSource(gone as unknown as Blob, 'f').read(0, 4), 'file/io', { file: 'f', offset: 0 });
    const short = { size: 10, slice: () => ({ arrayBuffer: async () => new ArrayBuffer(2) }) };
    await expectFailure(() => blobSource(short as unknown as Blob, 'f').read(0, 4), 'file/truncated', { file: 'f', found: '2 bytes' });
  });
});
