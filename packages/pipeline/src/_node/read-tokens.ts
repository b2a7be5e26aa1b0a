/**
 * Text files as tokens: .txt, .jsonl with a `text` field, or .json with arrays of token ids, used as they are.
 * @module
 */
import { readFile } from 'node:fs/promises';
import type { Tokenizer } from '@lmq/model';
import { LmqError } from '@lmq/tensor';
import { readJson } from './text-files.js';

/** Either one stream of tokens, to be cut into windows, or windows as somebody cut them. */
export type Tokens = { ids: number[] } | { windows: number[][] };

/**
 * Reads and tokenizes a file.
 * @param vocab token ids must be below this
 * @throws LmqError `file/*`, or `tokenizer/unsupported` when text comes without a tokenizer
 */
export async function readTokens(path: string, tokenizer: Tokenizer | undefined, vocab: number): Promise<Tokens> {
  if (path.endsWith('.json')) return { windows: checkWindows(await readJson(path), path, vocab) };
  if (!tokenizer) {
    throw new LmqError('tokenizer/unsupported', 'the model has no tokenizer', {
      file: path,
      hint: 'Put its tokenizer.json beside config.json, or give token ids as a .json file.',
    });
  }
  const text = await readText(path);
  return { ids: tokenizer.encode(path.endsWith('.jsonl') ? textOfLines(text, path) : text) };
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (e) {
    const code = (e as NodeJS.ErrnoException).code === 'ENOENT' ? 'file/missing' : 'file/io';
    throw new LmqError(code, 'the text cannot be read', { file: path, found: (e as Error).message, cause: e });
  }
}

/** Documents joined by an empty line. */
function textOfLines(text: string, path: string): string {
  const documents: string[] = [];
  let offset = 0;
  for (const line of text.split('\n')) {
    if (line.trim()) {
      let value: unknown;
      try {
        value = (JSON.parse(line) as { text?: unknown } | null)?.text;
      } catch (e) {
        throw new LmqError('file/format', 'a line is not JSON', { file: path, offset, found: (e as Error).message, cause: e });
      }
      if (typeof value !== 'string')
        throw new LmqError('file/format', 'a line has no text field', { file: path, offset, expected: '{"text": "…"}', found: line });
      documents.push(value);
    }
    offset += Buffer.byteLength(line) + 1;
  }
  return documents.join('\n\n');
}

function checkWindows(value: unknown, path: string, vocab: number): number[][] {
  const bad = (what: string, found: unknown): never => {
    throw new LmqError('file/format', what, { file: path, expected: `an array of arrays of token ids below ${vocab}`, found });
  };
  if (!Array.isArray(value) || value.length === 0) return bad('no token ids', typeof value);
  for (const window of value) {
    if (!Array.isArray(window) || window.length < 2) bad('a window has fewer than two tokens', window);
    for (const id of window as unknown[]) {
      if (!(Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocab)) bad('not a token id of this model', id);
    }
  }
  return value as number[][];
}
