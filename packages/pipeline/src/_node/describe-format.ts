/**
 * What a model is stored as, in words, and what is odd about it: for people who look into a file.
 * @module
 */
import type { Checkpoint, TensorInfo } from '@lmq/checkpoints';
import { type CompressedTensor, isLmqError } from '@lmq/tensor';
import { isDense } from '../plan.js';
import { configOf } from './companions.js';
import { dtypeOf } from './export-folder.js';
import { type FormatShare, MISLABELLED, NAMES, plainName, type Subject } from './format-names.js';
import type { OpenModel } from './open-model.js';
import { quantizationOf } from './quantization.js';

export type { FormatShare } from './format-names.js';

export interface FormatDescription {
  /** E.g. `GPTQ v1, 4-bit g128 symmetric, act-order`. */
  name: string;
  /** What runtimes may stumble over. */
  quirks: string[];
  /** Largest first. */
  formats: FormatShare[];
}

/** Describes a model by its headers, its configuration and one quantized weight, which is read. */
export async function describeFormat(model: Pick<OpenModel, 'checkpoint' | 'folder'>): Promise<FormatDescription> {
  const { checkpoint, folder } = model;
  const config = folder === undefined ? undefined : await configOf({ folder, files: {} });
  const quantization = folder === undefined ? undefined : ((await quantizationOf(folder, config)) ?? {});
  const formats = sharesOf(checkpoint);
  const quirks: string[] = [];
  const subject: Subject = {
    checkpoint,
    formats,
    quirks,
    ...(quantization && { quantization }),
    ...(config && { dtype: dtypeOf(config) }),
  };
  const sample = [...checkpoint.tensors.values()].find((t) => !isDense(t) && !/^(u?int|bool|ONNX)/.test(t.format));
  if (sample) subject.sample = await readSample(checkpoint, sample, quirks);
  const name = await (NAMES[checkpoint.format] ?? plainName)(subject);
  return { name: `${name}${quirks.some((q) => q.startsWith(MISLABELLED)) ? '; mislabelled' : ''}`, quirks, formats };
}

async function readSample(checkpoint: Checkpoint, { name }: TensorInfo, quirks: string[]): Promise<CompressedTensor | undefined> {
  try {
    return await checkpoint.read(name);
  } catch (e) {
    if (!isLmqError(e)) throw e;
    quirks.push(e.code === 'model/config' ? MISLABELLED + e.message : e.message);
    return undefined;
  }
}

function sharesOf({ tensors }: Checkpoint): FormatShare[] {
  const groups = new Map<string, FormatShare>();
  let total = 0;
  for (const { format, bytes } of tensors.values()) {
    const group = groups.get(format) ?? { format, tensors: 0, bytes: 0, share: 0 };
    groups.set(format, { ...group, tensors: group.tensors + 1, bytes: group.bytes + bytes });
    total += bytes;
  }
  return [...groups.values()].map((g) => ({ ...g, share: total ? g.bytes / total : 0 })).sort((a, b) => b.bytes - a.bytes);
}
