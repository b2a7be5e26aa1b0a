import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { NANO_MODELS } from '@lmq/nano';
import { afterAll } from 'vitest';
import { run } from '../src/index.js';

const bin = fileURLToPath(new URL('../bin/lmq.js', import.meta.url));

export interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
  /** The object that `--json` printed. */
  json: () => Record<string, never> & { error?: { code: string; message: string } };
}

const asRun = (code: number | null, stdout: string, stderr: string): Run => ({
  code,
  stdout,
  stderr,
  json: () => JSON.parse(stdout.trim().split('\n').at(-1)!),
});

/** Runs the command in this process, which saves half a second of start-up each time. One at a time: what it prints is caught. */
export async function lmq(args: string[]): Promise<Run> {
  const { stdout, stderr } = process;
  const printed = { stdout: '', stderr: '' };
  const real = { stdout: stdout.write, stderr: stderr.write };
  if (busy) throw new Error('the command is already running in this process');
  busy = true;
  const catchInto =
    (name: keyof typeof printed): typeof stdout.write =>
    (text) => {
      printed[name] += text;
      return true;
    };
  stdout.write = catchInto('stdout');
  stderr.write = catchInto('stderr');
  try {
    return asRun(await run(args), printed.stdout, printed.stderr);
  } finally {
    stdout.write = real.stdout;
    stderr.write = real.stderr;
    busy = false;
  }
}
let busy = false;

/** Runs the built command as a user would, in a process of its own. `onStderr` may kill it; `onStart` may close its pipes. */
export function spawnLmq(
  args: string[],
  onStderr?: (text: string, kill: (signal: NodeJS.Signals) => void) => void,
  onStart?: (child: ChildProcessByStdio<null, Readable, Readable>) => void,
): Promise<Run> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [bin, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    onStart?.(child);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (d) => {
      stdout += d;
    });
    child.stderr.on('data', (d) => {
      stderr += d;
      onStderr?.(stderr, (signal) => child.kill(signal));
    });
    child.on('close', (code) => resolve(asRun(code, stdout, stderr)));
  });
}

/** A folder that goes away after the tests. */
export function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'lmq-cli-'));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A copy of lmq-nano to spoil. */
export function nanoCopy(dir: string, name: string): string {
  const to = join(dir, name);
  cpSync(fileURLToPath(NANO_MODELS['lmq-nano'].folder), to, { recursive: true });
  return to;
}

/** Changes a JSON file. */
export function editJson(path: string, change: (value: Record<string, unknown>) => void): void {
  const value = JSON.parse(readFileSync(path, 'utf8'));
  change(value);
  writeFileSync(path, JSON.stringify(value));
}

/** Everything in a folder, hidden files too. */
export function listing(dir: string): string[] {
  return readdirSync(dir).sort();
}
