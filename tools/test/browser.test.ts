// The page of examples/browser in headless Chromium under a strict content-security policy, with and without cross-origin isolation:
// the same codes as in Node on the same kernels, GPTQ below rounding, and nothing blocked but ndarray's one attempt to make code from strings.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

interface Row {
  bits: number;
  rtn: number;
  gptq: number;
  sha256: string;
}
interface Experiment {
  variant: string;
  tensorClass: string;
  table: Row[];
}
interface PageResult extends Experiment {
  where: 'page' | 'worker';
  error?: string;
  isolated: boolean;
  text: string;
}
type Site = Map<string, { type: string; text: string }>;

const folder = new URL('../../examples/browser/', import.meta.url);
// biome-ignore lint/suspicious/noUndeclaredEnvVars: tests do not run under turbo
const chromium = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  (path) => path && existsSync(path),
);
const work = { rows: 96, cols: 256, tokens: 700, seed: 7, kernel: 'simd128' };
const runs = [
  { where: 'page' },
  { where: 'worker' },
  { where: 'worker', kernel: 'auto' }, // what this engine is fastest with
];

/** Uses the page as a person would: fills the form, presses the button, waits, reads; for each of the runs. */
const USER = `
const form = document.querySelector('form');
for (const values of ${JSON.stringify(runs.map((r) => ({ ...work, ...r })))}) {
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
  const done = new Promise((resolve) => addEventListener('experiment', resolve, { once: true }));
  form.requestSubmit();
  const { detail } = await done;
  const result = { ...detail, isolated: crossOriginIsolated, text: document.querySelector('main').innerText };
  await fetch('/result', { method: 'POST', body: JSON.stringify(result) });
}
`;

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

/** Opens the page; resolves with all results and every violation of the policy that the browser reported. */
async function visit(site: Site, headers: Record<string, string>): Promise<{ results: PageResult[]; blocked: string[] }> {
  const results: PageResult[] = [];
  const blocked: string[] = [];
  const profile = mkdtempSync(join(tmpdir(), 'lmq-chromium-'));
  let browser: ChildProcess | undefined;
  let finish = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });

  const policy = `${headers['Content-Security-Policy']}; report-uri /violation`;
  const server = createServer(async (request, response) => {
    const path = request.url!;
    if (path === '/result') results.push(JSON.parse(await bodyOf(request)));
    if (path === '/violation') {
      const report = JSON.parse(await bodyOf(request))['csp-report'];
      blocked.push(`${report['effective-directive']} ${report['blocked-uri']}`);
    }
    const file = site.get(path);
    response.writeHead(file ? 200 : 404, { ...headers, 'Content-Security-Policy': policy, 'Content-Type': file?.type ?? 'text/plain' });
    response.end(file?.text);
    if (results.length === runs.length) setTimeout(finish, 300); // reports are sent apart from the results
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const quiet = ['--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic'];
    const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-proxy-server', `--user-data-dir=${profile}`, ...quiet];
    browser = spawn(chromium!, [...flags, '--remote-debugging-port=0', url], { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
    let said = '';
    browser.stderr!.on('data', (text) => {
      said += text;
    });
    const died = new Promise<never>((_, reject) => {
      browser!.on('error', reject);
      browser!.on('exit', (code) => reject(new Error(`Chromium ended with ${code}: ${said}`)));
    });
    const late = new Promise<never>((_, reject) => {
      setTimeout(
        () => reject(new Error(`no results after 60 s; blocked: ${blocked.join() || 'nothing'}; Chromium: ${said}`)),
        60_000,
      ).unref();
    });
    died.catch(() => {}); // it also ends when told to
    await Promise.race([finished, died, late]);
    return { results, blocked };
  } finally {
    if (browser?.pid) {
      const gone = new Promise((resolve) => browser!.once('close', resolve));
      try {
        process.kill(-browser.pid, 'SIGKILL'); // its helpers too
        await gone;
      } catch {
        // it was gone already
      }
    }
    server.closeAllConnections();
    server.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

describe.skipIf(!chromium)(`browser page${chromium ? '' : ' (skipped: no Chromium here; set CHROMIUM)'}`, () => {
  it.each([{ isolated: false }, { isolated: true }])('cross-origin isolated: $isolated', async ({ isolated }) => {
    const script = `import { runExperiment } from './experiment.mjs';
      console.log(JSON.stringify(await runExperiment(${JSON.stringify(work)})));`;
    const cwd = fileURLToPath(folder);
    const inNode: Experiment = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', script], { cwd, encoding: 'utf8' }));
    const { buildSite, headers } = (await import(new URL('site.mjs', folder).href)) as {
      buildSite: () => Promise<Site>;
      headers: (isolated: boolean) => Record<string, string>;
    };
    const site = await buildSite();
    const page = site.get('/')!;
    page.text = page.text.replace('</body>', '<script type="module" src="/user.mjs"></script></body>');
    site.set('/user.mjs', { type: 'text/javascript', text: USER });

    const policy = headers(isolated)['Content-Security-Policy']!;
    expect(policy).not.toMatch(/'unsafe-eval'|'unsafe-inline'/);
    const { results, blocked } = await visit(site, headers(isolated));

    expect(results.map((r) => r.where)).toEqual(runs.map((r) => r.where));
    for (const [i, result] of results.entries()) {
      expect(result.error).toBeUndefined();
      expect(result.isolated).toBe(isolated);
      expect(result.text).toContain(isolated ? 'This page is cross-origin isolated' : 'This page is not cross-origin isolated');
      // scijs's class needs code from strings: Node allows that, the page does not
      expect(inNode.tensorClass).toMatch(/^View/);
      expect(result.tensorClass).toMatch(/StridedView/);
      expect(result.table).toHaveLength(3);
      for (const row of result.table) expect(row.gptq).toBeLessThan(0.5 * row.rtn);
      if (runs[i]!.kernel === 'auto') expect(result.variant).toMatch(/^wasm-(simd128|relaxed)$/);
      else expect(result.variant).toBe(inNode.variant);
      if (result.variant === inNode.variant) expect(result.table.map((r) => r.sha256)).toEqual(inNode.table.map((r) => r.sha256));
      for (const row of result.table) expect(result.text).toContain(row.sha256.slice(0, 12));
    }
    // one attempt by the page and one by each of two workers (see ndarray() of @lmq/tensor), which also shows that violations are reported
    expect(blocked).toEqual(runs.map(() => 'script-src eval'));
  });
});
