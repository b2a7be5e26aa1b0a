/**
 * Reading lmq's own format: `lmq.json` and the physical safetensors it speaks of. Every physical tensor must belong to exactly one tensor
 * of the model, with the dtype and shape that its layout implies; so a manifest that does not fit its data is found at opening.
 * @module
 */
import { layoutName } from '@lmq/formats';
import { checkInputQuant, type ErrorFacts, type InputQuant, isLmqError, printable } from '@lmq/tensor';
import { asMatrix, countOf, fail, MAX_DIM, MAX_RANK, missingTensor } from './_checks.js';
import { createJsonReader } from './_json.js';
import { type LayoutPlan, planLayout, skeleton } from './_lmq-layouts.js';
import { type Fields, fieldsOf } from './_object.js';
import { checkStored } from './_stored.js';
import type { Checkpoint, SafetensorsFile, TensorInfo } from './api.js';
import { LMQ_MANIFEST, LMQ_VERSION } from './lmq-write.js';

const OP = 'openLmq';

/** Longest manifest accepted, in characters. */
export const MAX_MANIFEST_CHARACTERS = 100_000_000;

interface Entry {
  value: unknown;
  /** Byte of the manifest where its name is. */
  at: number;
}

function readManifest(text: string, file: string): { info: Fields; tensors: Map<string, Entry> } {
  if (text.length > MAX_MANIFEST_CHARACTERS)
    fail('file/limit', 'the manifest is too long', {
      op: OP,
      file,
      offset: 0,
      expected: `at most ${MAX_MANIFEST_CHARACTERS} characters`,
      found: text.length,
    });
  const reader = createJsonReader(new TextEncoder().encode(text), { op: OP, file });
  const tensors = new Map<string, Entry>();
  let version: unknown;
  let info: Fields | undefined = {};
  let listed = false;
  reader.object((key, offset) => {
    if (key === 'lmq') {
      version = reader.value();
      if (version !== LMQ_VERSION)
        fail('file/format', 'unknown version of the lmq format', {
          op: OP,
          file,
          offset,
          expected: LMQ_VERSION,
          found: version,
          hint: 'Update lmq.',
        });
    } else if (key === 'info') {
      info = fieldsOf(reader.value());
      if (!info) fail('file/format', 'info is not an object', { op: OP, file, offset });
    } else if (key === 'tensors') {
      listed = true;
      reader.object(
        (name, at) => {
          tensors.set(name, { value: reader.value(), at });
        },
        (name) => tensors.has(name),
      );
    } else fail('file/format', 'the manifest has an unknown field', { op: OP, file, offset, expected: 'lmq, info, tensors', found: key });
  });
  reader.end();
  if (version === undefined || !listed)
    fail('file/format', 'this is not a manifest of lmq', { op: OP, file, offset: 0, expected: `{ "lmq": ${LMQ_VERSION}, "tensors": … }` });
  return { info, tensors };
}

function readShape(value: unknown, where: ErrorFacts): number[] {
  const ok =
    Array.isArray(value) &&
    value.length <= MAX_RANK &&
    value.every((d) => Number.isInteger(d) && d >= 1 && d <= MAX_DIM) &&
    countOf(value) !== null;
  return ok ? (value as number[]) : fail('file/format', 'not a shape', { ...where, found: value });
}

function planTensor(name: string, value: unknown, where: ErrorFacts): { shape: number[]; plan: LayoutPlan; input?: InputQuant } {
  const entry = fieldsOf(value);
  const keys = entry ? Object.keys(entry) : [];
  if (!entry || !('shape' in entry && 'layout' in entry) || keys.length !== ('input' in entry ? 3 : 2))
    return fail('file/format', 'an entry is not a shape, a layout and perhaps an input', {
      ...where,
      expected: 'shape, layout, input',
      found: keys.join(', '),
    });
  const shape = readShape(entry.shape, where);
  const report = (what: string, expected: string, found: unknown): never => fail('file/format', what, { ...where, expected, found });
  const plan = planLayout(entry.layout, name, shape, { fail: report });
  const matrix = (entry.layout as Fields).shape as number[];
  const [rows, cols] = asMatrix(shape);
  if (matrix[0] !== rows || matrix[1] !== cols) report('shape and layout disagree', `[${rows}, ${cols}]`, `[${matrix.join(', ')}]`);
  return { shape, plan, ...('input' in entry && { input: readInput(entry.input, plan, where) }) };
}

function readInput(value: unknown, plan: LayoutPlan, where: ErrorFacts): InputQuant {
  const bad = (found: string): never => fail('file/format', 'not an input quantization', { ...where, found });
  const fields = fieldsOf(value) ?? bad(JSON.stringify(value));
  const { kind, per, symmetric, threshold } = fields;
  const grid = fields.static === undefined ? undefined : (fieldsOf(fields.static) ?? bad('static is not an object'));
  const known = kind === 'llm-int8' ? ['kind', 'threshold'] : ['kind', 'per', 'symmetric', 'static'];
  const strange = [
    ...Object.keys(fields).filter((k) => !known.includes(k)),
    ...Object.keys(grid ?? {}).filter((k) => k !== 'scale' && k !== 'zeroPoint'),
  ];
  if (strange.length > 0) bad(strange.join(', '));
  const fixed = grid && { static: { scale: grid.scale, zeroPoint: grid.zeroPoint } };
  const input = (kind === 'llm-int8' ? { kind, threshold } : { kind, per, symmetric, ...fixed }) as InputQuant;
  try {
    checkInputQuant({ weight: skeleton(plan), input }, OP);
  } catch (e) {
    if (!isLmqError(e)) throw e;
    bad(e.message);
  }
  return input;
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
  const inputs = new Map<string, InputQuant>();
  const claimed = new Set<string>();
  for (const [name, { value, at }] of manifest.tensors) {
    const where = { op: OP, file, tensor: name, offset: at };
    const { shape, plan, input } = planTensor(name, value, where);
    if (input) inputs.set(name, input);
    let bytes = 0;
    let holder = file;
    for (const claim of plan.claims) {
      const found = physical.tensors.get(claim.name);
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
          expected: want,
          found: `${has} in ${found.file}`,
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
    ...(inputs.size > 0 && { inputs }),
    async read(name) {
      const plan = plans.get(name) ?? missingTensor(name, file, 'read');
      const bytes: Uint8Array[] = [];
      for (const claim of plan.claims) bytes.push(await physical.readBytes(claim.name));
      return checkStored(plan.build(bytes), { op: 'read', file: tensors.get(name)!.file, tensor: name });
    },
    close: () => physical.close(),
  };
}
