// docs/cli.md is what scripts are told about exit codes.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, LmqError } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { exitCode, explain } from '../src/exit.js';

const read = (path: string) => readFileSync(fileURLToPath(new URL(path, import.meta.url)), 'utf8');
const rows = [...read('../../../docs/cli.md').matchAll(/^\| (\d+) +\|[^|]*\|(.*)\|$/gm)];
const documented = new Map(rows.flatMap(([, exit, codes]) => [...codes!.matchAll(/`([^`]+)`/g)].map((m) => [m[1]!, Number(exit)])));

describe('exit codes', () => {
  it('are those that the documentation says, for every error code there is', () => {
    const codes = [...read('../../tensor/src/errors.ts').matchAll(/^ {2}\| '([a-z]+\/[a-z]+)'/gm)].map((m) => m[1] as ErrorCode);
    expect(codes.length).toBeGreaterThan(15);
    expect([...documented.keys()].sort()).toEqual([...codes, 'internal', 'interrupted'].sort());
    for (const code of codes) expect([code, exitCode(new LmqError(code, 'what'))]).toEqual([code, documented.get(code)]);
    const bug = new TypeError('bug');
    expect([explain(bug, 1).code, exitCode(bug)]).toEqual(['internal', documented.get('internal')]);
    expect([explain(bug, 130).code, documented.get('interrupted')]).toEqual(['interrupted', 130]);
  });
});
