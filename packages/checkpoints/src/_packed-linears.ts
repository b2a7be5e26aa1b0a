/**
 * What checkpoints of quantization tools share: safetensors in which a linear `<module>` is not one floating-point `<module>.weight` but
 * several tensors, such as `<module>.qweight`, `.qzeros`, `.scales` …, and all else is as in any checkpoint.
 * @module
 */
import type { Affine, CompressedTensor, ErrorFacts, InputQuant } from '@lmq/tensor';
import { fail, missingTensor } from './_checks.js';
import { DTYPES } from './_dtypes.js';
import { floatData } from './_floats.js';
import { checkStored } from './_stored.js';
import { transpose } from './_transpose.js';
import type { Checkpoint, SafetensorsFile, TensorInfo } from './api.js';

/** A quantized linear, before its data is read. */
export interface PackedLinear {
  /** Without the last part, e.g. `model.layers.0.mlp.up_proj`. */
  module: string;
  /** Facts for errors: file, and the weight's name. */
  where: ErrorFacts & { tensor: string };
  /** The tensors of the linear by the last part of their names. */
  parts: ReadonlyMap<string, TensorInfo>;
  /** A part's shape. @throws LmqError `file/format` when it is absent, not a matrix (or vector), empty, or of another dtype */
  shape(part: string, dtypes: readonly string[], rank: number): number[];
  dtype(part: string): string;
  bytes(part: string): Promise<Uint8Array>;
}

/** A linear whose parts fit together. */
export interface LinearPlan {
  shape: [out: number, inputs: number];
  /** What `TensorInfo.format` says. */
  format: string;
  /** How its input is quantized at run time, where the checkpoint says so. */
  input?: InputQuant;
  read(): Promise<CompressedTensor>;
}

export interface PackedFormat {
  format: Checkpoint['format'];
  op: string;
  /** Parts that a linear of this format may have, besides a bias; the one with the codes first. */
  parts: readonly string[];
  /** Parts that belong to a quantized linear, and to nothing else. Default those of GPTQ and AWQ. */
  own?: readonly string[];
  /** The parts that make a module a quantized linear, any one of them. Default the one with the codes. */
  marks?: readonly string[];
}

/** Last parts of names that only GPTQ and AWQ have. */
const PARTS = ['qweight', 'qzeros', 'scales', 'g_idx'];

/** The module of a tensor's name and the part that it is: all behind the dot, but `weight.absmax` together. */
function split(name: string): [module: string, part: string] {
  const inWeight = name.lastIndexOf('.weight.');
  const dot = inWeight > 0 ? inWeight : name.lastIndexOf('.');
  return dot < 0 ? ['', name] : [name.slice(0, dot), name.slice(dot + 1)];
}

/** True when a checkpoint has linears of any format that is read. */
export function hasPackedLinears(tensors: Checkpoint['tensors']): boolean {
  for (const name of tensors.keys())
    if (/\.(?:qweight|weight_packed|SCB|W_q|weight\.quant_state\.bitsandbytes__\w+)$/.test(name)) return true;
  return false;
}

/**
 * The quantized linears of a checkpoint, by module.
 * @throws LmqError `file/format` for parts that are left over or unknown, `model/config` when there is no quantized linear
 */
function packedLinears(physical: SafetensorsFile, { op, parts: allowed, own = PARTS, marks = allowed.slice(0, 1) }: PackedFormat) {
  const modules = new Map<string, Map<string, TensorInfo>>();
  for (const name of physical.tensors.keys()) {
    const [module, part] = split(name);
    if (marks.includes(part) && module !== '') modules.set(module, new Map());
  }
  for (const [name, info] of physical.tensors) {
    const [module, part] = split(name);
    const parts = modules.get(module);
    if (parts ? !allowed.includes(part) && part !== 'bias' : own.includes(part)) {
      const what = parts ? 'a quantized linear has a part that does not belong to it' : `a part of a quantized linear has no ${marks[0]}`;
      const expected = parts ? [...allowed, 'bias'].map((p) => `${module}.${p}`).join(', ') : `${module}.${marks[0]}`;
      const hint = 'The files come from different models, or from a tool that stores something lmq does not know.';
      fail('file/format', what, { op, file: info.file, tensor: name, expected, hint });
    }
    parts?.set(part, info);
  }
  if (modules.size === 0)
    fail('model/config', 'the configuration says quantized, the weights are not', {
      op,
      file: physicalName(physical),
      expected: `tensors named <module>.${marks.join(' or <module>.')}`,
      hint: 'Configuration and weights come from different models.',
    });
  return [...modules].map(([module, parts]) => {
    const [first] = parts.values();
    return linearOf(physical, module, parts, { op, file: first!.file, tensor: `${module}.weight` });
  });
}

/**
 * The checkpoint with `<module>.weight` [out, in] in place of its parts, in the place of the codes. Every linear's parts are checked now,
 * their data when it is read.
 * @param plan checks shapes and dtypes against each other and the configuration
 */
export function openPacked(physical: SafetensorsFile, format: PackedFormat, plan: (linear: PackedLinear) => LinearPlan): Checkpoint {
  return planned(
    physical,
    format,
    packedLinears(physical, format).map((linear) => [linear, plan(linear)]),
  );
}

/** As {@link openPacked}, where a linear's shape lies in data. One linear after the other is looked at. */
export async function openPackedByData(
  physical: SafetensorsFile,
  format: PackedFormat,
  plan: (linear: PackedLinear) => Promise<LinearPlan>,
): Promise<Checkpoint> {
  const plans: [PackedLinear, LinearPlan][] = [];
  for (const linear of packedLinears(physical, format)) plans.push([linear, await plan(linear)]);
  return planned(physical, format, plans);
}

function planned(physical: SafetensorsFile, { format, parts: [codes] }: PackedFormat, linears: [PackedLinear, LinearPlan][]): Checkpoint {
  const modules = new Map(linears.map((entry) => [entry[0].module, entry]));
  const plans = new Map<string, LinearPlan>();
  const inputs = new Map<string, InputQuant>();
  const tensors = new Map<string, TensorInfo>();
  for (const [name, info] of physical.tensors) {
    const [module, part] = split(name);
    const entry = modules.get(module);
    if (!entry || part === 'bias') tensors.set(name, info);
    if (!entry || part !== codes) continue;
    const [linear, plan] = entry;
    const weight = `${module}.weight`;
    if (linear.parts.has('bias')) {
      const [n] = linear.shape('bias', ['F16', 'BF16', 'F32'], 1);
      if (n !== plan.shape[0]) wrongShape(linear, 'bias', [plan.shape[0]]);
    }
    plans.set(weight, plan);
    if (plan.input) inputs.set(weight, plan.input);
    let bytes = 0;
    for (const [p, { bytes: n }] of linear.parts) if (p !== 'bias') bytes += n;
    tensors.set(weight, { name: weight, shape: plan.shape, format: plan.format, bytes, file: info.file });
  }
  return {
    format,
    tensors,
    metadata: physical.metadata,
    ...(inputs.size > 0 && { inputs }),
    async read(name) {
      const plan = plans.get(name);
      if (!plan) return tensors.has(name) ? physical.read(name) : missingTensor(name, physicalName(physical), 'read');
      const where = { op: 'read', file: tensors.get(name)!.file, tensor: name };
      try {
        return checkStored(await plan.read(), where);
      } catch (cause) {
        if (!(cause instanceof RangeError)) throw cause;
        return fail('file/limit', 'there is no memory to unpack the tensor', {
          ...where,
          found: `${tensors.get(name)!.bytes} bytes`,
          cause,
        });
      }
    },
    close: () => physical.close(),
  };
}

function physicalName(physical: SafetensorsFile): string {
  for (const { file } of physical.tensors.values()) return file;
  return physical.format;
}

function linearOf(
  physical: SafetensorsFile,
  module: string,
  parts: ReadonlyMap<string, TensorInfo>,
  where: PackedLinear['where'],
): PackedLinear {
  return {
    module,
    where,
    parts,
    shape(part, dtypes, rank) {
      const info = parts.get(part);
      if (!info) {
        const hint = 'Download all files of the model again; if it is not there either, the tool that wrote it is not one lmq knows.';
        return fail('file/format', 'a part of a quantized linear is missing', { ...where, expected: `${module}.${part}`, hint });
      }
      const dtype = physical.dtype(info.name);
      if (!dtypes.includes(dtype) || info.shape.length !== rank || info.shape.includes(0)) {
        const expected = `${dtypes.join(' or ')} with ${rank} ${rank === 1 ? 'axis' : 'axes'}, not empty`;
        fail('file/format', `${part} is not what the format needs`, { ...where, expected, found: `${dtype} [${info.shape.join(', ')}]` });
      }
      return info.shape;
    },
    dtype: (part) => physical.dtype(`${module}.${part}`),
    bytes: (part) => physical.readBytes(`${module}.${part}`),
  };
}

/** Throws: a part has a shape that the others do not allow. */
export function wrongShape(linear: PackedLinear, part: string, expected: readonly number[], hint?: string): never {
  const found = `[${linear.parts.get(part)!.shape.join(', ')}]`;
  return fail('file/format', `${part} does not fit the other parts`, {
    ...linear.where,
    expected: `[${expected.join(', ')}]`,
    found,
    ...(hint !== undefined && { hint }),
  });
}

/** Dtypes that scales may have. */
export const SCALES = ['F16', 'BF16', 'F32'];

/** Scales [groups, out] of a file as those of a layout, [out, groups]. */
export async function readScales(linear: PackedLinear, groups: number, out: number, groupSize: number): Promise<Affine['scales']> {
  const format = DTYPES.get(linear.dtype('scales'))!.float!;
  const stored = floatData(await linear.bytes('scales'), format);
  return { block: [1, groupSize], format, data: transpose(stored, groups, out) };
}

/** `affine 4-bit g128`. Whether it is symmetric or has act-order is known when it is read. */
export function formatName(bits: number, groupSize: number, inputs: number): string {
  return `affine ${bits}-bit ${groupSize >= inputs ? 'per row' : `g${groupSize}`}`;
}

/** True when every value is `value`. */
export const allAre = (values: Uint8Array, value: number): boolean => values.every((v) => v === value);
