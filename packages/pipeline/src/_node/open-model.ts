/**
 * Opens whatever `<model>` names: a built-in model, a Hugging Face or lmq folder, a safetensors or GGUF file.
 * @module
 */
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Checkpoint } from '@lmq/checkpoints';
import { openCheckpoint } from '@lmq/checkpoints/node';
import { type Architecture, createTokenizer, parseGgufConfig, parseHfConfig, type Tokenizer, tokenizerFromGguf } from '@lmq/model';
import { calibration, NANO_MODELS, validation } from '@lmq/nano';
import { LmqError } from '@lmq/tensor';
import { optional, readConfig, readTemplate, readTokenizerJson } from './text-files.js';

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
    const config = await optional(readConfig, folder, 'config.json');
    if (config === undefined) {
      throw new LmqError('file/missing', 'the weights have no configuration', {
        file: join(folder, 'config.json'),
        hint: 'A Hugging Face model folder has one beside its weights.',
      });
    }
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
  const tokenizer = await optional(readTokenizerJson, folder, 'tokenizer.json');
  if (tokenizer === undefined) return undefined;
  return createTokenizer(
    tokenizer,
    await optional(readTokenizerJson, folder, 'tokenizer_config.json'),
    await optional(readConfig, folder, 'generation_config.json'),
    await optional(readTemplate, folder, 'chat_template.jinja'),
  );
}
