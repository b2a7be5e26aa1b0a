/**
 * The formats of Hugging Face folders that lmq writes, by the names of their exports. Another one is another entry. The code of a format is
 * loaded when somebody asks for it.
 * @module
 */
import type { FolderFormat } from './format.js';

const gptq = async () => (await import('./gptq.js')).gptqFolder;
const autoRound = async () => (await import('./auto-round.js')).autoRoundFolder;

const FOLDER_FORMATS = {
  gptq: async () => (await gptq())('gptq'),
  'gptq:v1': async () => (await gptq())('gptq:v1', 'v1'),
  'gptq:v2': async () => (await gptq())('gptq:v2', 'v2'),
  awq: async () => (await import('./awq.js')).awqFolder,
  'compressed-tensors': async () => (await import('./compressed-tensors.js')).compressedTensorsFolder,
  bitsandbytes: async () => (await import('./bitsandbytes.js')).bitsandbytesFolder,
  hqq: async () => (await import('./hqq.js')).hqqFolder,
  'auto-round': async () => (await autoRound())('auto-round'), // variants by AutoRound's own names
  'auto-round:auto_gptq': async () => (await autoRound())('auto-round:auto_gptq', 'gptq-v1'),
  'auto-round:gptqmodel': async () => (await autoRound())('auto-round:gptqmodel', 'gptq-v2'),
  'auto-round:auto_awq': async () => (await autoRound())('auto-round:auto_awq', 'awq'),
  safetensors: async () => (await import('./safetensors.js')).safetensorsFolder,
} satisfies Record<string, () => Promise<FolderFormat>>;

export type FolderName = keyof typeof FOLDER_FORMATS;

export const FOLDER_NAMES = Object.keys(FOLDER_FORMATS) as FolderName[];

export function isFolderName(target: string): target is FolderName {
  return Object.hasOwn(FOLDER_FORMATS, target);
}

export function folderFormat(target: FolderName): Promise<FolderFormat> {
  return FOLDER_FORMATS[target]();
}
