/**
 * The formats of Hugging Face folders that lmq writes, by the names of their exports. Another one is another entry.
 * @module
 */
import { autoRoundFolder } from './auto-round.js';
import { awqFolder } from './awq.js';
import { bitsandbytesFolder } from './bitsandbytes.js';
import { compressedTensorsFolder } from './compressed-tensors.js';
import type { FolderFormat } from './format.js';
import { gptqFolder } from './gptq.js';
import { hqqFolder } from './hqq.js';
import { safetensorsFolder } from './safetensors.js';

const FOLDER_FORMATS = {
  gptq: gptqFolder('gptq'),
  'gptq:v1': gptqFolder('gptq:v1', 'v1'),
  'gptq:v2': gptqFolder('gptq:v2', 'v2'),
  awq: awqFolder,
  'compressed-tensors': compressedTensorsFolder,
  bitsandbytes: bitsandbytesFolder,
  hqq: hqqFolder,
  'auto-round': autoRoundFolder('auto-round'), // variants by AutoRound's own names
  'auto-round:auto_gptq': autoRoundFolder('auto-round:auto_gptq', 'gptq-v1'),
  'auto-round:gptqmodel': autoRoundFolder('auto-round:gptqmodel', 'gptq-v2'),
  'auto-round:auto_awq': autoRoundFolder('auto-round:auto_awq', 'awq'),
  safetensors: safetensorsFolder,
} satisfies Record<string, FolderFormat>;

export type FolderName = keyof typeof FOLDER_FORMATS;

export const FOLDER_NAMES = Object.keys(FOLDER_FORMATS) as FolderName[];

export function isFolderName(target: string): target is FolderName {
  return Object.hasOwn(FOLDER_FORMATS, target);
}

export function folderFormat(target: FolderName): FolderFormat {
  return FOLDER_FORMATS[target];
}
