/**
 * The formats of Hugging Face folders that lmq writes. Another one is another entry, and a name in `EXPORTS`.
 * @module
 */
import type { ExportName } from '../api.js';
import { awqFolder } from './awq.js';
import type { FolderFormat } from './format.js';
import { gptqFolder } from './gptq.js';
import { safetensorsFolder } from './safetensors.js';

const FOLDER_FORMATS = {
  gptq: gptqFolder('gptq'),
  'gptq:v1': gptqFolder('gptq:v1', 'v1'),
  'gptq:v2': gptqFolder('gptq:v2', 'v2'),
  awq: awqFolder,
  safetensors: safetensorsFolder,
} satisfies Partial<Record<ExportName, FolderFormat>>;

export type FolderName = keyof typeof FOLDER_FORMATS;

export function isFolderName(target: ExportName): target is FolderName {
  return Object.hasOwn(FOLDER_FORMATS, target);
}

export function folderFormat(target: FolderName): FolderFormat {
  return FOLDER_FORMATS[target];
}
