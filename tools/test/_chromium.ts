/**
 * Headless Chromium for tests: where it is, and one page in a profile of its own.
 * @module
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Its path, or undefined: tests that need it skip then. */
// biome-ignore lint/suspicious/noUndeclaredEnvVars: tests do not run under turbo
export const chromium = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  (path) => path && existsSync(path),
);

/** For the title of a suite that skips. */
export const skipped = chromium ? '' : ' (skipped: no Chromium here; set CHROMIUM)';

/** Opens `url` and waits for `until`, for a minute at most; then the browser is gone, and its profile too. */
export async function visit<T>(url: string, until: Promise<T>): Promise<T> {
  const profile = mkdtempSync(join(tmpdir(), 'lmq-chromium-'));
  const quiet = ['--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic'];
  const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-proxy-server', `--user-data-dir=${profile}`, ...quiet];
  const browser = spawn(chromium!, [...flags, '--remote-debugging-port=0', url], { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  let said = '';
  browser.stderr.on('data', (text) => {
    said += text;
  });
  const died = new Promise<never>((_, reject) => {
    browser.on('error', reject);
    browser.on('exit', (code) => reject(new Error(`Chromium ended with ${code}: ${said}`)));
  });
  died.catch(() => {}); // it also ends when told to
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no results after 60 s; Chromium: ${said}`)), 60_000);
  });
  try {
    return await Promise.race([until, died, late]);
  } finally {
    clearTimeout(timer);
    if (browser.pid) {
      const gone = new Promise((resolve) => browser.once('close', resolve));
      try {
        process.kill(-browser.pid, 'SIGKILL'); // its helpers too
        await gone;
      } catch {
        // it was gone already
      }
    }
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** What a page has posted. */
export async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}
