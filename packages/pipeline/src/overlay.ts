/**
 * A checkpoint in which some tensors are replaced: what quantization produced, over the model it came from.
 * @module
 */
import type { Checkpoint, TensorInfo } from '@lmq/checkpoints';
import { byteLength, layoutName } from '@lmq/formats';
import type { CompressedTensor, InputQuant } from '@lmq/tensor';

/**
 * Reads `replaced` tensors from memory and the others from `base`. Closing it leaves `base` open.
 * @param inputs how inputs of linears are quantized, by the name of the weight
 */
export function overlay(
  base: Checkpoint,
  replaced: ReadonlyMap<string, CompressedTensor>,
  inputs: ReadonlyMap<string, InputQuant> = new Map(),
): Checkpoint {
  const tensors = new Map<string, TensorInfo>();
  for (const [name, info] of base.tensors) {
    const t = replaced.get(name);
    tensors.set(name, t ? { ...info, format: layoutName(t), bytes: byteLength(t) } : info);
  }
  return {
    format: base.format,
    tensors,
    metadata: base.metadata,
    ...(base.nonFinite && { nonFinite: base.nonFinite }),
    inputs: new Map([...(base.inputs ?? []), ...inputs]),
    read: async (name) => replaced.get(name) ?? base.read(name),
    close: async () => {},
  };
}

/** Reads each tensor from the last of `layers` that has it. Closing it closes the layers but the first. */
export function stack(base: Checkpoint, layers: readonly Checkpoint[]): Checkpoint {
  const tensors = new Map(base.tensors);
  const home = new Map<string, Checkpoint>();
  for (const layer of layers) {
    for (const [name, info] of layer.tensors) {
      tensors.set(name, info);
      home.set(name, layer);
    }
  }
  return {
    format: base.format,
    tensors,
    metadata: base.metadata,
    ...(base.nonFinite && { nonFinite: base.nonFinite }),
    inputs: new Map([base, ...layers].flatMap((c) => [...(c.inputs ?? [])])),
    read: (name) => (home.get(name) ?? base).read(name),
    close: async () => {
      for (const layer of layers) await layer.close();
    },
  };
}
