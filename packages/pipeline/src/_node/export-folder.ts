/**
 * Export to Hugging Face folders in the formats of other tools: a survey of the weights, which says what becomes of each, then safetensors,
 * config.json with `quantization_config`, and the files that travel along.
 * @module
 */
import { type Checkpoint, type TensorToWrite, toSafetensors } from '@lmq/checkpoints';
import { createFolder, type PlaceOpts, writeShards } from '@lmq/checkpoints/node';
import { type CompressedTensor, createPhase, type FloatFormat, isLmqError, LmqError, type LongCallOpts } from '@lmq/tensor';
import type { FolderPlan } from '../_folders/format.js';
import { toDense } from '../_folders/safetensors.js';
import { type FolderName, folderFormat } from '../_folders/table.js';
import { type Change, changeOf } from './changes.js';
import { type Companions, configOf, requantized, writeCompanions } from './companions.js';

export interface PlanFolderOpts extends LongCallOpts {
  target: FolderName;
  companions: Companions;
  /** Module names of the linears that must be quantized in the format's own way, not decoded; see `FolderFacts`. */
  linears: readonly string[];
  /** Store plain floats in the model's number format too: GGUF files keep vectors in float32 whatever the model's is. Default false. */
  castDense?: boolean;
}

/** What an export will write, and what becomes of each tensor. */
export interface PlannedFolder {
  tensors: TensorToWrite[];
  changes: Change[];
  /** What the format cannot hold; nothing may be written unless this is empty. */
  refused: LmqError[];
  notes: string[];
  companions: Companions;
}

/** Reads every tensor once and writes nothing. */
export async function planFolder(checkpoint: Checkpoint, opts: PlanFolderOpts): Promise<PlannedFolder> {
  const { target, linears, castDense } = opts;
  const dtype = dtypeOf(await configOf(opts.companions));
  const survey = (await folderFormat(target)).begin({ dtype, linears });
  const done = createPhase('look at the weights', checkpoint.tensors.size, 'tensors', opts);
  const modules = new Set(linears);
  const refused: LmqError[] = [];
  const changes: Change[] = [];
  /** How each tensor is stored, once the survey is over. */
  const stores = new Map<string, (plan: FolderPlan, t: CompressedTensor) => TensorToWrite[]>();
  let seen = 0;
  for (const [name, info] of checkpoint.tensors) {
    opts.signal?.throwIfAborted();
    const t = await checkpoint.read(name);
    done(++seen, name);
    if (t.kind === 'dense') {
      const format = castDense && target === 'safetensors' ? dtype : t.format;
      changes.push(changeOf(name, info, t, toDense(name, t, format)));
      stores.set(name, (_, dense) => [toSafetensors(name, toDense(name, dense, format), info.shape)]);
      continue;
    }
    const decodedFor = (reason: string) => {
      changes.push({ tensor: name, from: info.format, to: 'fp32', effect: 'exact', detail: `decoded: ${reason}` });
      stores.set(name, (_, packed) => [toSafetensors(name, toDense(name, packed, 'fp32'), info.shape)]);
    };
    const linear = modules.has(name.replace(/\.weight$/, ''));
    if (!linear && target !== 'safetensors') {
      decodedFor(`only linears are quantized in ${target}`);
      continue;
    }
    try {
      survey.add(name, t, checkpoint.inputs?.get(name));
      changes.push(
        target === 'safetensors'
          ? changeOf(name, info, t, toDense(name, t, dtype))
          : { tensor: name, from: info.format, to: target, effect: 'exact' },
      );
      stores.set(name, (plan, packed) => plan.pack(name, packed, checkpoint.inputs?.get(name)));
    } catch (e) {
      if (!isLmqError(e) || e.code !== 'export/unsupported') throw e;
      if (name !== 'lm_head.weight' || target === 'safetensors') {
        refused.push(e);
        changes.push({ tensor: name, from: info.format, to: target, effect: 'refused', detail: e.message });
        continue;
      }
      decodedFor(`${target} has no place for it`);
    }
  }
  const empty = target !== 'safetensors' && !changes.some((c) => c.to === target);
  if (empty)
    refused.push(
      new LmqError('export/unsupported', `${target} holds quantized weights, and none of these is`, {
        op: 'export',
        expected: 'weights that are quantized to integers',
        found: checkpoint.format,
        hint: 'Quantize the model: lmq quantize.',
      }),
    );
  if (refused.length) return { tensors: [], changes, refused, notes: [], companions: opts.companions };
  const plan = survey.finish();
  const read = lastRead(checkpoint);
  const tensors: TensorToWrite[] = [];
  for (const [name, store] of stores) {
    // the tensor's data is read again when its turn to be written comes
    for (const [i, t] of store(plan, await read(name)).entries()) {
      tensors.push({ ...t, bytes: async () => store(plan, await read(name))[i]!.bytes() });
    }
  }
  return { tensors, changes, refused, notes: plan.notes, companions: await requantized(opts.companions, plan.quantization, plan.files) };
}

/** Writes the folder; it appears under its name only when it is whole. */
export async function writeFolder(
  { tensors, companions, notes }: PlannedFolder,
  { output, signal, onProgress, ...place }: LongCallOpts & PlaceOpts & { output: string },
): Promise<{ bytes: number; notes: string[] }> {
  const folder = await createFolder(output, place);
  try {
    const { bytes } = await writeShards(folder.dir, tensors, { signal, onProgress });
    const left = await writeCompanions(companions, folder.dir);
    await folder.commit();
    return { bytes, notes: [...notes, ...left] };
  } catch (e) {
    await folder.abort();
    throw e;
  }
}

/** Both steps. @throws LmqError `export/unsupported` for the first tensor that the format cannot hold */
export async function exportFolder(
  checkpoint: Checkpoint,
  opts: PlanFolderOpts & PlaceOpts & { output: string },
): Promise<{ bytes: number; notes: string[] }> {
  const plan = await planFolder(checkpoint, opts);
  if (plan.refused[0]) throw plan.refused[0];
  return writeFolder(plan, opts);
}

/** `dtype` of config.json (older: `torch_dtype`); half precision where it does not say. */
export function dtypeOf(config: Record<string, unknown>): FloatFormat {
  const dtype = config.dtype ?? config.torch_dtype;
  return dtype === 'bfloat16' ? 'bf16' : dtype === 'float32' ? 'fp32' : 'fp16';
}

/** Reads that keep the last tensor: a linear is several stored tensors, which are written one after the other. */
function lastRead(checkpoint: Checkpoint): Checkpoint['read'] {
  let last: { name: string; t: CompressedTensor } | undefined;
  return async (name) => {
    if (last?.name !== name) {
      last = undefined; // one tensor in memory, not two
      last = { name, t: await checkpoint.read(name) };
    }
    return last.t;
  };
}
