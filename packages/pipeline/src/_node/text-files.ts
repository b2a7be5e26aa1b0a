/**
 * Small text files: those of a model folder, which are somebody else's, and those that the user names or lmq wrote.
 * @module
 */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { parseJson } from '@lmq/checkpoints';
import { readFileText, readFolderText } from '@lmq/checkpoints/node';
import { isLmqError, LmqError } from '@lmq/tensor';

/** Larger files than this are no configuration. */
const MAX_CONFIG_BYTES = 10e6;

/** A tokenizer of 262 144 tokens takes 33 MB. */
const MAX_TOKENIZER_BYTES = 64e6;

/**
 * Parses a configuration of a model folder, strictly: duplicate keys, names that reach a prototype and integers that would be rounded are
 * errors.
 * @throws LmqError `file/missing`, `file/limit`, `file/format`, `file/io`
 */
export async function readConfig(folder: string, name: string): Promise<unknown> {
  return parseJson(await readFolderText(folder, name, MAX_CONFIG_BYTES), join(folder, name), 'readConfig');
}

/**
 * Parses a tokenizer file of a model folder. Its keys are tokens, which may be any words, and its lengths may be beyond integers.
 * @throws LmqError as `readConfig`
 */
export async function readTokenizerJson(folder: string, name: string): Promise<unknown> {
  return parse(await readFolderText(folder, name, MAX_TOKENIZER_BYTES), join(folder, name));
}

/**
 * The text of a chat template.
 * @throws LmqError as `readConfig`
 */
export function readTemplate(folder: string, name: string): Promise<string> {
  return readFolderText(folder, name, MAX_CONFIG_BYTES);
}

/** The same with undefined for a file that is not there. */
export async function optional<T>(
  read: (folder: string, name: string) => Promise<T>,
  folder: string,
  name: string,
): Promise<T | undefined> {
  try {
    return await read(folder, name);
  } catch (e) {
    if (isLmqError(e) && e.code === 'file/missing') return undefined;
    throw e;
  }
}

/**
 * Parses a JSON file that the user named.
 * @throws LmqError `file/missing`, `file/limit`, `file/format`, `file/io`
 */
export async function readJson(path: string): Promise<unknown> {
  return parse(await readFileText(path, MAX_TOKENIZER_BYTES), path);
}

function parse(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (e) {
    throw new LmqError('file/format', 'the file is not JSON', { file: path, found: (e as Error).message, cause: e });
  }
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
