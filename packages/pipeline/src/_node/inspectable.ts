/**
 * Files to look into that are no models that lmq runs: they say no architecture.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { openCheckpoint } from '@lmq/checkpoints/node';
import { NANO_MODELS } from '@lmq/nano';
import { type OpenModel, openModel } from './open-model.js';

/** A model, or what {@link isBare} is true for. */
export type Inspectable = Omit<OpenModel, 'architecture'> & Partial<Pick<OpenModel, 'architecture'>>;

/** True for ONNX files named by themselves, whose graph is not read, and importance matrices. */
export function isBare({ format, metadata }: Checkpoint, name: string): boolean {
  return (format === 'onnx' && name.endsWith('.onnx')) || metadata.get('general.type') === 'imatrix';
}

/**
 * As `openModel`, and ONNX files and importance matrices (GGUF) as well.
 * @throws LmqError as `openModel`
 */
export async function openInspectable(name: string): Promise<Inspectable> {
  if (Object.hasOwn(NANO_MODELS, name)) return openModel(name);
  const checkpoint = await openCheckpoint(name);
  if (isBare(checkpoint, name)) return { name, checkpoint, warnings: [...(checkpoint.warnings ?? [])], close: () => checkpoint.close() };
  await checkpoint.close();
  return openModel(name);
}
