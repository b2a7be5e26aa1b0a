/**
 * Opens whatever `<model>` names: a built-in model, a Hugging Face, transformers.js or lmq folder, a safetensors or GGUF file.
 * @module
 */
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Checkpoint, openQuantized } from '@lmq/checkpoints';
import { openCheckpoint } from '@lmq/checkpoints/node';
import { decode } from '@lmq/formats';
import {
  type Architecture,
  createTokenizer,
  parseGgufConfig,
  parseHfConfig,
  ROPE_FACTORS,
  type Tokenizer,
  tokenizerFromGguf,
} from '@lmq/model';
import { calibration, NANO_MODELS, validation } from '@lmq/nano';
import { LmqError } from '@lmq/tensor';
import { onnxView } from '../_onnx-view.js';
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
  const stored = await openCheckpoint(path);
  try {
    if (stored.format === 'gguf') {
      const has = (t: string) => stored.tensors.has(t);
      const factors = has(ROPE_FACTORS) ? decode(await stored.read(ROPE_FACTORS)).data : undefined;
      const architecture = parseGgufConfig(stored.metadata, has, factors);
      return {
        name,
        checkpoint: stored,
        architecture,
        tokenizer: tokenizerFromGguf(stored.metadata),
        warnings: architecture.warnings,
        close: () => stored.close(),
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
    const beside = async (file: string) => optional(readConfig, folder, file);
    const quantizeConfig = (await beside('quantize_config.json')) ?? (await beside('quant_config.json'));
    const checkpoint = await openStored(stored, config, quantizeConfig);
    const architecture = parseHfConfig(checkpoint === stored ? config : unquantized(config), (t) => checkpoint.tensors.has(t));
    const tokenizer = await openTokenizer(folder);
    return {
      name,
      checkpoint,
      architecture,
      ...(tokenizer && { tokenizer }),
      folder,
      ...(own && { builtIn: { calibration: fileURLToPath(calibration), validation: fileURLToPath(validation) } }),
      warnings: [...(checkpoint.warnings ?? []), ...architecture.warnings],
      close: () => checkpoint.close(),
    };
  } catch (e) {
    await stored.close();
    throw e;
  }
}

/**
 * The checkpoint as its configuration says that it is stored.
 * @param quantizeConfig what older tools write beside config.json
 */
export async function openStored(stored: Checkpoint, config: unknown, quantizeConfig: unknown): Promise<Checkpoint> {
  if (stored.format !== 'onnx') return openQuantized(stored, config, { quantizeConfig });
  const tied = !stored.tensors.has('lm_head.weight');
  return onnxView(
    stored,
    parseHfConfig(unquantized(config), (tensor) => !tied || tensor !== 'lm_head.weight'),
  );
}

/** The configuration of the model, once its quantization is dealt with. */
export function unquantized(config: unknown): unknown {
  const { quantization_config: _, ...rest } = config as Record<string, unknown>;
  return rest;
}

/** @throws LmqError `file/*`, `tokenizer/unsupported` */
export async function openTokenizer(folder: string): Promise<Tokenizer | undefined> {
  const tokenizer = await optional(readTokenizerJson, folder, 'tokenizer.json');
  if (tokenizer === undefined) return undefined;
  return createTokenizer(
    tokenizer,
    await optional(readTokenizerJson, folder, 'tokenizer_config.json'),
    await optional(readConfig, folder, 'generation_config.json'),
    await optional(readTemplate, folder, 'chat_template.jinja'),
  );
}
