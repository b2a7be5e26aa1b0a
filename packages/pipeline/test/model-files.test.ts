// The small files of a model folder are somebody else's: what they are, how large, and where links lead is looked at before they are read.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { wasmBackend } from '@lmq/kernels-wasm';
import { NANO_MODELS } from '@lmq/nano';
import { isLmqError } from '@lmq/tensor';
import { afterAll, describe, expect, it } from 'vitest';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { parseRecipe } from '../src/recipe.js';

const dir = mkdtempSync(join(tmpdir(), 'lmq-files-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const nano = fileURLToPath(NANO_MODELS['lmq-nano'].folder);

let made = 0;
/** A copy of lmq-nano with some files replaced; the function may put anything in the place of the name. */
function folder(changes: Record<string, string | ((path: string) => void)> = {}): string {
  const to = join(dir, `model-${made++}`);
  cpSync(nano, to, { recursive: true });
  for (const [name, change] of Object.entries(changes)) {
    const path = join(to, name);
    rmSync(path, { force: true });
    if (typeof change === 'string') writeFileSync(path, change);
    else change(path);
  }
  return to;
}
const problem = (p: Promise<unknown>) =>
  p.then(() => 'nothing was thrown').catch((e) => (isLmqError(e) ? `${e.code} ${e.message}` : Promise.reject(e)));
const open = async (path: string) => (await openModel(path)).close();
const config = readFileSync(join(nano, 'config.json'), 'utf8');
const pipe = (path: string) => void execFileSync('mkfifo', [path]);
const link = (to: string) => (path: string) => symlinkSync(to, path);
const posix = process.platform !== 'win32';

describe('openModel', () => {
  it.each([
    ['a key twice', { 'config.json': config.replace('{', '{ "vocab_size": 1,') }, 'file/format', 'config.json'],
    ['a key that reaches a prototype', { 'config.json': config.replace('{', '{ "__proto__": {},') }, 'file/format', 'config.json'],
    ['a long configuration', { 'config.json': config + ' '.repeat(10e6) }, 'file/limit', 'at most 10000000'],
    ['a long generation configuration', { 'generation_config.json': `{}${' '.repeat(10e6)}` }, 'file/limit', 'generation_config.json'],
    ['no JSON', { 'tokenizer_config.json': '{' }, 'file/format', 'tokenizer_config.json'],
    ['bytes that are no text', { 'chat_template.jinja': (p: string) => writeFileSync(p, Buffer.of(0xff)) }, 'file/format', 'UTF-8'],
  ])('refuses %s', async (_, changes, code, text) => {
    const said = await problem(open(folder(changes)));
    expect(said).toContain(code);
    expect(said).toContain(text);
  });

  it.skipIf(!posix).each(['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'])(
    'refuses a pipe and a link to a device in the place of %s',
    async (name) => {
      expect(await problem(open(folder({ [name]: pipe })))).toMatch(new RegExp(`^file/format .*not a regular file.*${name}`));
      expect(await problem(open(folder({ [name]: link('/dev/zero') })))).toMatch(/^file\/format .*leads out of the model folder/);
    },
  );

  it('takes tokens of any name', async () => {
    const json = JSON.parse(readFileSync(join(nano, 'tokenizer.json'), 'utf8'));
    json.model.vocab.constructor = Object.keys(json.model.vocab).length;
    const model = await openModel(folder({ 'tokenizer.json': JSON.stringify(json) }));
    expect(model.tokenizer?.encode('It was a dark night').length).toBeGreaterThan(3);
    await model.close();
  });

  it('says which file is missing', async () => {
    const path = folder();
    rmSync(join(path, 'config.json'));
    expect(await problem(open(path))).toMatch(/^file\/missing .*config\.json.*beside its weights/);
  });
});

describe('an lmq folder', () => {
  const copy = async (from: string) => {
    const model = await openModel(from);
    const output = join(dir, `copy-${made++}`);
    try {
      const { notes } = await quantizeModel(model, { backend: await wasmBackend(), recipe: parseRecipe({}), output });
      return { notes, output, files: readdirSync(output) };
    } finally {
      await model.close();
    }
  };

  it.skipIf(!posix)('takes along regular files of the folder, and says what it left behind', async () => {
    const secret = join(dir, 'secret');
    writeFileSync(secret, 'mine');
    const { notes, output, files } = await copy(
      folder({
        'merges.txt': pipe,
        'NOTICE.md': link(secret),
        'LICENSE.txt': link('/dev/zero'),
        'vocab.json': link('nowhere'),
        LICENSE: 'MIT',
        LICENCE: link('LICENSE'),
      }),
    );
    expect(notes.map((n) => n.split(' ')[0]).sort()).toEqual(['LICENSE.txt', 'NOTICE.md', 'merges.txt', 'vocab.json']);
    for (const name of ['LICENSE.txt', 'NOTICE.md', 'merges.txt', 'vocab.json']) expect(files).not.toContain(name);
    expect(readFileSync(join(output, 'LICENCE'), 'utf8')).toBe('MIT');
    await open(output);
  });

  it.skipIf(!posix)('takes along what a snapshot in the cache of Hugging Face links to', async () => {
    const cache = join(dir, 'models--somebody--nano');
    const snapshot = join(cache, 'snapshots', 'abc');
    mkdirSync(join(cache, 'blobs'), { recursive: true });
    mkdirSync(snapshot, { recursive: true });
    const plain = folder({ LICENSE: 'MIT' });
    for (const name of readdirSync(plain)) {
      renameSync(join(plain, name), join(cache, 'blobs', `blob-of-${name}`));
      symlinkSync(join('..', '..', 'blobs', `blob-of-${name}`), join(snapshot, name));
    }
    const { notes, output, files } = await copy(snapshot);
    expect(notes).toEqual([]);
    expect(files).toEqual(expect.arrayContaining(['config.json', 'tokenizer.json', 'LICENSE']));
    expect(readFileSync(join(output, 'LICENSE'), 'utf8')).toBe('MIT');
  });
});
