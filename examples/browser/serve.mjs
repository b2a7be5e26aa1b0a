// Serves the page to this machine: node examples/browser/serve.mjs [--port 8080] [--isolated]
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { buildSite, headers } from './site.mjs';

const { values } = parseArgs({ options: { port: { type: 'string', default: '8080' }, isolated: { type: 'boolean', default: false } } });
const site = await buildSite();
const server = createServer(({ url }, response) => {
  const file = site.get(new URL(url, 'http://localhost').pathname);
  response.writeHead(file ? 200 : 404, { ...headers(values.isolated), 'Content-Type': file?.type ?? 'text/plain' });
  response.end(file?.text ?? 'not here');
});
server.listen(Number(values.port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
