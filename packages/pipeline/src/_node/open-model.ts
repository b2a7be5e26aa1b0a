/**
 * Opens whatever `<model>` names: a built-in model, a Hugging Face or lmq folder, a safetensors or GGUF file.
 * @module
 */
import { access, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Checkpoint } from '@lmq/checkpoints';
import { openCheckpoint } from '@lmq/checkpoints/node';
import { type Architecture, createTokenizer, parseGgufConfig, parseHfConfig, type Tokenizer, tokenizerFromGguf } from '@lmq/model';
import { calibration, NANO_MODELS, validation } from '@lmq/nano';
import { LmqError } from '@lmq/tensor';

/** A model ready to be loaded, evaluated or quantized. */
export interface OpenModel {
  /** As the user wrote it. */
  name: string;
  checkpoint: Checkpoint;
  architecture: Architecture;
  /** Absent when the folder has no tokenizer.json. */
  tokenizer?: Tokenizer;
  /** Folder with config.json and the tokenizer; absent for GGUF. */
  folder?: string;
  /** Text files of a built-in model. */
  builtIn?: { calibration: string; validation: string };
  warnings: string[];
  close(): Promise<void>;
}

/** Larger files than this are no configuration, tokenizer or template. */
const MAX_TEXT_BYTES = 64e6;

/**
 * Opens a model by name or path. Headers are read and checked; weights are not.
 * @throws LmqError `file/*` for missing or damaged files, `model/*` for architectures that lmq does not run
 */
export async function openModel(name: string): Promise<OpenModel> {
  const own = Object.hasOwn(NANO_MODELS, name) ? NANO_MODELS[name as keyof typeof NANO_MODELS] : undefined;
  const path = own ? fileURLToPath(own.folder) : name;
  const checkpoint = await openCheckpoint(path);
  try {
    if (checkpoint.format === 'gguf') {
      const architecture = parseGgufConfig(checkpoint.metadata, (t) => checkpoint.tensors.has(t));
      return {
        name,
        checkpoint,
        architecture,
        tokenizer: tokenizerFromGguf(checkpoint.metadata),
        warnings: architecture.warnings,
        close: () => checkpoint.close(),
      };
    }
    const folder = (await stat(path)).isDirectory() ? path : dirname(path);
    const config = await readJson(join(folder, 'config.json'), 'A Hugging Face model folder has one beside its weights.');
    const architecture = parseHfConfig(config, (t) => checkpoint.tensors.has(t));
    const tokenizer = await openTokenizer(folder);
    return {
      name,
      checkpoint,
      architecture,
      ...(tokenizer && { tokenizer }),
      folder,
      ...(own && { builtIn: { calibration: fileURLToPath(calibration), validation: fileURLToPath(validation) } }),
      warnings: architecture.warnings,
      close: () => checkpoint.close(),
    };
  } catch (e) {
    await checkpoint.close();
    throw e;
  }
}

async function openTokenizer(folder: string): Promise<Tokenizer | undefined> {
  const path = join(folder, 'tokenizer.json');
  if (!(await exists(path))) return undefined;
  const optional = async (file: string) => ((await exists(join(folder, file))) ? readJson(join(folder, file)) : undefined);
  const template = join(folder, 'chat_template.jinja');
  return createTokenizer(
    await readJson(path),
    await optional('tokenizer_config.json'),
    await optional('generation_config.json'),
    (await exists(template)) ? await readText(template, '') : undefined,
  );
}

/** Parses a JSON file. */
export async function readJson(path: string, hint = ''): Promise<unknown> {
  const text = await readText(path, hint);
  try {
    return JSON.parse(text);
  } catch (e) {
    throw new LmqError('file/format', 'the file is not JSON', { file: path, found: (e as Error).message, cause: e });
  }
}

/** A text that comes with a model. */
async function readText(path: string, hint: string): Promise<string> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new LmqError('file/format', 'this is not a regular file', { file: path }); // reading a pipe may never end
    if (info.size > MAX_TEXT_BYTES)
      throw new LmqError('file/limit', 'the file is too large', {
        file: path,
        expected: `at most ${MAX_TEXT_BYTES} bytes`,
        found: info.size,
      });
    return await readFile(path, 'utf8');
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT')
      throw new LmqError('file/missing', 'the file does not exist', { file: path, hint, cause: e });
    throw e;
  }
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
