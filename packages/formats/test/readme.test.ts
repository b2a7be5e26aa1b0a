import { readFileSync } from 'node:fs';
import * as formats from '@lmq/formats';
import { expect, it } from 'vitest';

it('the API table of the README names every export, and nothing else', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const table = readme.split('\n').filter((line) => line.startsWith('| `'));
  const names = table.flatMap((line) => [...(line.split('|')[1] ?? '').matchAll(/`(\w+)/g)].map((m) => m[1]!));
  expect([...new Set(names)].sort()).toEqual(Object.keys(formats).sort());
});
