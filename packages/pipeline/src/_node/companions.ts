/**
 * The files of a model folder that are not weights: configuration, tokenizer, licence.
 * @module
 */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ByteSource } from '@lmq/checkpoints';
import { folderSource, writeFileAtomic } from '@lmq/checkpoints/node';
import { isLmqError, LmqError, printable } from '@lmq/tensor';
import { readConfig } from './text-files.js';

/** Where a new folder's small files come from. */
export interface Companions {
  /** Copied from here, but for those below. */
  folder?: string;
  /** JSON files by name, written in place of copies. */
  files: Record<string, unknown>;
}

/** Files of a model folder that are not weights and mean the same for the quantized model. */
const TRAVELS =
  /^(config\.json|generation_config\.json|tokenizer.*|special_tokens_map\.json|vocab\..*|merges\.txt|chat_template\..*|(LICEN[CS]E|NOTICE|USE_POLICY)(\..*)?)$/i;

/** Bytes copied at a time. */
const CHUNK = 2 ** 24;

/** Writes the files into a folder; returns what was left behind. */
export async function writeCompanions({ folder, files }: Companions, to: string): Promise<string[]> {
  for (const [name, value] of Object.entries(files)) await writeFile(join(to, name), `${JSON.stringify(value, null, 2)}\n`);
  return folder === undefined ? [] : copyAlong(folder, to, new Set(Object.keys(files)));
}

/**
 * The companions of a model whose weights are stored otherwise from now on.
 * @param quantization `quantization_config` of the new config.json; absent: it has none
 */
export async function requantized(
  { folder, files }: Companions,
  quantization: Record<string, unknown> | undefined,
  more: Record<string, unknown> = {},
): Promise<Companions> {
  const config = await configOf({ folder, files });
  const { quantization_config: before, 'transformers.js_config': loading, ...rest } = config; // the latter is of an ONNX file
  if (before === undefined && loading === undefined && !quantization) return { folder, files: { ...files, ...more } }; // byte for byte, where it is a copy
  return { folder, files: { ...files, 'config.json': { ...rest, ...(quantization && { quantization_config: quantization }) }, ...more } };
}

/** config.json. @throws LmqError `file/*`, `model/config` when it is not an object */
export async function configOf({ folder, files }: Companions): Promise<Record<string, unknown>> {
  const config = files['config.json'] ?? (folder === undefined ? undefined : await readConfig(folder, 'config.json'));
  if (typeof config === 'object' && config !== null && !Array.isArray(config)) return config as Record<string, unknown>;
  throw new LmqError('model/config', 'config.json is not an object', {
    op: 'export',
    file: join(folder ?? '', 'config.json'),
    found: config,
  });
}

/**
 * Copies the files that travel along; returns what was left behind. A pipe may never end, and a link that leads out of the folder may name
 * what the user would not publish.
 */
async function copyAlong(from: string, to: string, except: ReadonlySet<string>): Promise<string[]> {
  const notes: string[] = [];
  for (const name of await readdir(from)) {
    if (!TRAVELS.test(name) || except.has(name)) continue;
    try {
      await copyFile(await folderSource(from, name), join(to, name));
    } catch (e) {
      if (!isLmqError(e) || (e.code !== 'file/format' && e.code !== 'file/missing')) throw e;
      notes.push(`${printable(name)} is not copied along: it is not a regular file of the model folder`);
    }
  }
  return notes;
}

async function copyFile(from: ByteSource, to: string): Promise<void> {
  try {
    await writeFileAtomic(to, async (sink) => {
      for (let at = 0; at < from.size; at += CHUNK) await sink.write(await from.read(at, Math.min(CHUNK, from.size - at)));
    });
  } finally {
    await from.close();
  }
}
