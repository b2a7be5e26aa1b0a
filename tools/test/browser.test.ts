// The page of examples/browser in headless Chromium under a strict content-security policy, with and without cross-origin isolation:
// the same codes as in Node on the same kernels, GPTQ below rounding, and nothing blocked but ndarray's one attempt to make code from strings.
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { bodyOf, chromium, skipped, visit } from './_chromium.js';

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

/** Opens the page; resolves with all results and every violation of the policy that the browser reported. */
async function results(site: Site, headers: Record<string, string>): Promise<{ results: PageResult[]; blocked: string[] }> {
  const results: PageResult[] = [];
  const blocked: string[] = [];
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
    await visit(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, finished);
    return { results, blocked };
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe.skipIf(!chromium)(`browser page${skipped}`, () => {
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
    const { results: found, blocked } = await results(site, headers(isolated));

    expect(found.map((r) => r.where)).toEqual(runs.map((r) => r.where));
    for (const [i, result] of found.entries()) {
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
