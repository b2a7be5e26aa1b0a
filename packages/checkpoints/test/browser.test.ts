// The sources of a browser in headless Chromium: a Blob, a File chosen in a form, and URLs of this and of another origin, read by range.
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { bodyOf, chromium, skipped, visit } from '../../../tools/test/_chromium.js';
import type { TensorToWrite } from '../src/api.js';
import { writeGguf } from '../src/gguf-write.js';
import { writeSafetensors } from '../src/safetensors-write.js';
import { memorySink } from '../src/sources.js';

const TENSORS: TensorToWrite[] = [
  { name: 'big', shape: [256, 1024], dtype: 'F32', bytes: () => new Uint8Array(2 ** 20) },
  { name: 'w', shape: [2, 2], dtype: 'F32', bytes: () => new Uint8Array(Float32Array.of(1, -2, 0.5, 4).buffer) },
];

/** What the page does. `other` is the address of a second server. */
const PAGE = (other: string) => `
import { blobSource, openGguf, openSafetensors, urlSource } from '/checkpoints.mjs';
const fetched = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
const chosen = (bytes, name) => { // as a person chooses a file
  const input = document.querySelector('input');
  const list = new DataTransfer();
  list.items.add(new File([bytes], name));
  input.files = list.files;
  return input.files[0];
};
const results = {};
for (const [kind, open] of [['safetensors', openSafetensors], ['gguf', openGguf]]) {
  const path = '/model.' + kind;
  const bytes = await fetched(path);
  const sources = {
    blob: async () => blobSource(new Blob([bytes.slice(0, 100), bytes.slice(100)]), 'blob'),
    file: async () => { const file = chosen(bytes, 'm.' + kind); return blobSource(file, file.name); },
    url: () => urlSource(new URL(path, location.href)),
    otherOrigin: () => urlSource('${other}' + path),
  };
  for (const [name, make] of Object.entries(sources)) {
    const file = await open(await make());
    results[kind + ' ' + name] = [...(await file.read('w')).data];
  }
}
const codes = async (run) => { try { await run(); return 'no error'; } catch (e) { return e.name + ' ' + e.code; } };
results.missing = await codes(() => urlSource(new URL('/nothing', location.href)));
results.hidden = await codes(() => urlSource('${other}/hidden/model.gguf')); // its Content-Range is not shown to pages
results.cut = await codes(async () => openSafetensors(blobSource(new Blob([(await fetched('/model.safetensors')).slice(0, 50)]), 'cut')));
await fetch('/result', { method: 'POST', body: JSON.stringify(results) });
`;

async function listen(server: Server): Promise<string> {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe.skipIf(!chromium)(`sources in a browser${skipped}`, () => {
  it('reads Blobs, Files and URLs', async () => {
    const files = new Map<string, Uint8Array>();
    const safetensors = memorySink();
    await writeSafetensors(safetensors, TENSORS);
    files.set('/model.safetensors', safetensors.bytes());
    const gguf = memorySink();
    await writeGguf(gguf, { metadata: [], tensors: TENSORS });
    files.set('/model.gguf', gguf.bytes());
    files.set('/hidden/model.gguf', gguf.bytes());

    const root = createRequire(new URL('../../../', import.meta.url));
    const { build } = createRequire(root.resolve('tsup'))('esbuild'); // the one that builds the packages
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL('../src/index.ts', import.meta.url))],
      conditions: ['lmq-src'],
      bundle: true,
      format: 'esm',
      target: 'es2022',
      write: false,
      logLevel: 'error',
    });

    let sent = 0;
    let done: (results: Record<string, unknown>) => void = () => {};
    const results = new Promise<Record<string, unknown>>((resolve) => {
      done = resolve;
    });
    const text = new Map<string, [type: string, text: string]>([['/checkpoints.mjs', ['text/javascript', outputFiles[0].text]]]);
    const serve = (cors: boolean) =>
      createServer(async (request, response) => {
        const path = request.url!;
        if (path === '/result') done(JSON.parse(await bodyOf(request)));
        const [type, body] = text.get(path) ?? ['application/octet-stream', files.get(path)];
        const shown = cors && !path.startsWith('/hidden') && { 'Access-Control-Expose-Headers': 'Content-Range, ETag' };
        const headers = { 'Content-Type': type, ETag: '"1"', ...(cors && { 'Access-Control-Allow-Origin': '*' }), ...shown };
        const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
        if (!body || typeof body === 'string' || !range) return void response.writeHead(body ? 200 : 404, headers).end(body);
        const [first, last] = [Number(range[1]), Number(range[2])];
        sent += last + 1 - first;
        response
          .writeHead(206, { ...headers, 'Content-Range': `bytes ${first}-${last}/${body.length}` })
          .end(body.subarray(first, last + 1));
      });
    const servers = [serve(false), serve(true)];
    try {
      const [own, other] = await Promise.all(servers.map(listen));
      text.set('/', ['text/html', '<!doctype html><input type="file"><script type="module" src="/page.mjs"></script>']);
      text.set('/page.mjs', ['text/javascript', PAGE(other!)]);
      const found = await visit(`${own}/`, results);
      const expected: Record<string, unknown> = {
        missing: 'LmqError file/missing',
        hidden: 'LmqError file/io',
        cut: 'LmqError file/truncated',
      };
      for (const kind of ['safetensors', 'gguf'])
        for (const source of ['blob', 'file', 'url', 'otherOrigin']) expected[`${kind} ${source}`] = [1, -2, 0.5, 4];
      expect(found).toEqual(expected);
      expect(sent).toBeGreaterThan(0);
      expect(sent).toBeLessThan(2 ** 20); // headers and the small tensor, of four files of more than a MiB
    } finally {
      for (const server of servers) {
        server.closeAllConnections();
        server.close();
      }
    }
  });
});
