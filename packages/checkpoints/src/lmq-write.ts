/**
 * Writing lmq's own format: safetensors with one physical tensor per layout field, and `lmq.json`, which says what belongs together.
 *
 * ```json
 * { "lmq": 1, "info": { … }, "tensors": { "model.norm.weight": { "shape": [256], "layout": { "kind": "dense", … } } } }
 * ```
 * @module
 */
import { validate } from '@lmq/formats';
import { type CompressedTensor, checkInputQuant, type InputQuant } from '@lmq/tensor';
import { asMatrix, fail } from './_checks.js';
import { writeLayout } from './_lmq-layouts.js';
import { isTensorName } from './_safetensors-header.js';
import type { LmqEntry, TensorToWrite } from './api.js';

/** Version of the format that this package writes, and the only one it reads. */
export const LMQ_VERSION = 1;

/** Name of the manifest in a folder. */
export const LMQ_MANIFEST = 'lmq.json';

/**
 * A tensor's entry for `lmq.json` and its data as physical tensors, bits unchanged. The data is not copied.
 * @param shape shape in the original checkpoint, e.g. `[4096]` for a norm; default the tensor's own
 * @param input how the linear's input is quantized at run time
 * @throws LmqError `argument/*` when the tensor is not valid or the shape is another one, `backend/unsupported` when `input` does not suit it
 */
export function toLmqTensors(
  name: string,
  t: CompressedTensor,
  shape: readonly number[] = t.shape,
  input?: InputQuant,
): { entry: LmqEntry; tensors: TensorToWrite[] } {
  const op = 'toLmqTensors';
  if (!isTensorName(name)) fail('argument/value', 'not a tensor name', { op, tensor: name });
  validate(t);
  if (input) checkInputQuant({ weight: t, input }, op);
  const [rows, cols] = asMatrix(shape);
  if (rows !== t.shape[0] || cols !== t.shape[1])
    fail('argument/shape', 'the original shape is not that of the tensor', {
      op,
      tensor: name,
      expected: `[${t.shape.join(', ')}] as a matrix`,
      found: `[${shape.join(', ')}]`,
    });
  const tensors: TensorToWrite[] = [];
  const layout = writeLayout(t, name, tensors);
  if (t.kind === 'dense') tensors[0]!.shape = [...shape]; // what any safetensors reader expects of an uncompressed tensor
  return { entry: { shape: [...shape], layout, ...(input && { input }) }, tensors };
}

/**
 * The text of `lmq.json`.
 * @param entries every tensor of the model, uncompressed ones too
 * @param info anything worth keeping, e.g. the recipe; JSON
 */
export function lmqManifest(entries: Iterable<readonly [name: string, entry: LmqEntry]>, info: Record<string, unknown> = {}): string {
  const lines: string[] = [];
  const seen = new Set<string>();
  for (const [name, entry] of entries) {
    if (!isTensorName(name) || seen.has(name))
      fail('argument/value', 'two tensors have one name, or one has none', { op: 'lmqManifest', tensor: name });
    seen.add(name);
    lines.push(`    ${JSON.stringify(name)}: ${JSON.stringify(entry)}`);
  }
  return `{\n  "lmq": ${LMQ_VERSION},\n  "info": ${JSON.stringify(info)},\n  "tensors": {\n${lines.join(',\n')}\n  }\n}\n`;
}
