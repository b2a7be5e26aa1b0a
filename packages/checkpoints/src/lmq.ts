/**
 * Reading lmq's own format: `lmq.json` and the physical safetensors it speaks of. Every physical tensor must belong to exactly one tensor
 * of the model, with the dtype and shape that its layout implies; so a manifest that does not fit its data is found at opening.
 * @module
 */
import { layoutName, validate } from '@lmq/formats';
import { isLmqError, LmqError, printable } from '@lmq/tensor';
import { asMatrix, countOf, fail, MAX_DIM, MAX_RANK, missingTensor } from './_checks.js';
import { parseJson } from './_json.js';
import { type LayoutPlan, planLayout, skeleton } from './_lmq-layouts.js';
import { type Fields, fieldsOf } from './_object.js';
import type { Checkpoint, SafetensorsFile, TensorInfo } from './api.js';
import { LMQ_MANIFEST, LMQ_VERSION } from './lmq-write.js';

const OP = 'openLmq';

/** Longest manifest accepted, in characters. */
export const MAX_MANIFEST_CHARACTERS = 100_000_000;

function readManifest(text: string, file: string): { info: Fields; tensors: Fields } {
  if (text.length > MAX_MANIFEST_CHARACTERS)
    fail('file/limit', 'the manifest is too long', {
      op: OP,
      file,
      expected: `at most ${MAX_MANIFEST_CHARACTERS} characters`,
      found: text.length,
    });
  const top = fieldsOf(parseJson(text, file, OP));
  if (!top || top.lmq === undefined)
    return fail('file/format', 'this is not a manifest of lmq', { op: OP, file, expected: `{ "lmq": ${LMQ_VERSION}, … }` });
  if (top.lmq !== LMQ_VERSION)
    fail('file/format', 'unknown version of the lmq format', { op: OP, file, expected: LMQ_VERSION, found: top.lmq, hint: 'Update lmq.' });
  for (const key of Object.keys(top)) {
    if (!['lmq', 'info', 'tensors'].includes(key))
      fail('file/format', 'the manifest has an unknown field', { op: OP, file, expected: 'lmq, info, tensors', found: key });
  }
  const tensors = fieldsOf(top.tensors);
  const info = top.info === undefined ? {} : fieldsOf(top.info);
  if (!tensors || !info)
    return fail('file/format', 'the manifest lacks its tensors', { op: OP, file, expected: 'objects "tensors" and "info"' });
  return { info, tensors };
}

function readShape(value: unknown, tensor: string, file: string): number[] {
  const ok =
    Array.isArray(value) &&
    value.length <= MAX_RANK &&
    value.every((d) => Number.isInteger(d) && d >= 1 && d <= MAX_DIM) &&
    countOf(value) !== null;
  return ok ? (value as number[]) : fail('file/format', 'not a shape', { op: OP, file, tensor, found: value });
}

function planTensor(name: string, value: unknown, file: string): { shape: number[]; plan: LayoutPlan } {
  const entry = fieldsOf(value);
  const keys = entry ? Object.keys(entry) : [];
  if (!entry || keys.length !== 2 || !('shape' in entry && 'layout' in entry))
    return fail('file/format', 'an entry is not a shape and a layout', {
      op: OP,
      file,
      tensor: name,
      expected: 'shape, layout',
      found: keys.join(', '),
    });
  const shape = readShape(entry.shape, name, file);
  const report = (what: string, expected: string, found: unknown): never =>
    fail('file/format', what, { op: OP, file, tensor: name, expected, found });
  const plan = planLayout(entry.layout, name, shape, { fail: report });
  const matrix = (entry.layout as Fields).shape as number[];
  const [rows, cols] = asMatrix(shape);
  if (matrix[0] !== rows || matrix[1] !== cols) report('shape and layout disagree', `[${rows}, ${cols}]`, `[${matrix.join(', ')}]`);
  return { shape, plan };
}

/**
 * Opens an lmq folder's tensors.
 * @param manifestText contents of `lmq.json`
 * @param physical the safetensors beside it; closed by the result's `close`
 * @returns tensors in their layouts, exactly as they were written; `info` of the manifest is the metadata
 * @throws LmqError `file/format` when the manifest is damaged, of another version, or does not fit the physical tensors
 */
export function openLmq(manifestText: string, physical: SafetensorsFile, manifestName = LMQ_MANIFEST): Checkpoint {
  const file = manifestName;
  const manifest = readManifest(manifestText, file);
  const tensors = new Map<string, TensorInfo>();
  const plans = new Map<string, LayoutPlan>();
  const claimed = new Set<string>();
  for (const [name, value] of Object.entries(manifest.tensors)) {
    const { shape, plan } = planTensor(name, value, file);
    let bytes = 0;
    let holder = file;
    for (const claim of plan.claims) {
      const found = physical.tensors.get(claim.name);
      const where = { op: OP, file, tensor: name };
      if (!found)
        return fail('file/format', 'a part of a tensor is missing', {
          ...where,
          expected: claim.name,
          hint: 'lmq.json and the safetensors files come from different folders.',
        });
      if (claimed.has(claim.name)) fail('file/format', 'two tensors share a part', { ...where, found: claim.name });
      claimed.add(claim.name);
      const want = `${claim.dtype} [${claim.shape.join(', ')}]`;
      const has = `${physical.dtype(claim.name)} [${found.shape.join(', ')}]`;
      if (want !== has)
        fail('file/format', `a part of a tensor (${printable(claim.name)}) is not what the layout needs`, {
          ...where,
          file: found.file,
          expected: want,
          found: has,
        });
      bytes += found.bytes;
      holder = found.file;
    }
    plans.set(name, plan);
    tensors.set(name, { name, shape, format: layoutName(skeleton(plan)), bytes, file: holder });
  }
  for (const [name, info] of physical.tensors) {
    if (!claimed.has(name))
      fail('file/format', 'a stored tensor belongs to nothing in lmq.json', { op: OP, file: info.file, tensor: name });
  }
  return {
    format: 'lmq',
    tensors,
    metadata: new Map(Object.entries(manifest.info)),
    async read(name) {
      const plan = plans.get(name) ?? missingTensor(name, file, 'read');
      const bytes: Uint8Array[] = [];
      for (const claim of plan.claims) bytes.push(await physical.readBytes(claim.name));
      const t = plan.build(bytes);
      try {
        validate(t);
      } catch (cause) {
        if (!isLmqError(cause)) throw cause;
        const { expected, found } = (cause as LmqError).facts;
        throw new LmqError('file/format', `the stored tensor is damaged: ${(cause as LmqError).message}`, {
          op: 'read',
          file: tensors.get(name)!.file,
          tensor: name,
          expected,
          found,
          cause,
        });
      }
      return t;
    },
    close: () => physical.close(),
  };
}
