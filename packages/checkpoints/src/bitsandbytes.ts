/**
 * Reading bitsandbytes checkpoints as `save_pretrained` of Hugging Face writes them. 4 bits (NF4, FP4): `<module>.weight` holds codes, with
 * `.weight.absmax`, `.weight.quant_map`, the scales of the scales `.weight.nested_*`, and JSON in `.weight.quant_state.bitsandbytes__nf4`.
 * 8 bits (LLM.int8()): `<module>.weight` in int8 with the largest magnitude of each row in `<module>.SCB`. Source: bitsandbytes 0.50
 * functional.py (QuantState), nn/modules.py.
 *
 * 4-bit weights are those of bitsandbytes' decoder in float32. 8-bit ones are `code * (SCB / 127)` with one rounding for each operation;
 * bitsandbytes multiplies code and SCB first, so that last bits differ.
 * @module
 */
import { isLmqError, type Lut, matrix, type Scales } from '@lmq/tensor';
import { BNB_TABLES, otherCode, QUANT_STATE, rowsOfStream, scalesOfMaxima, shiftMiddle } from './_bitsandbytes.js';
import { fail } from './_checks.js';
import { typedView } from './_floats.js';
import { createJsonReader } from './_json.js';
import { type Fields, field, fieldsOf } from './_object.js';
import { formatName, type LinearPlan, openPackedByData, type PackedLinear, wrongShape } from './_packed-linears.js';
import { configFields, configFlag, configText } from './_quant-config.js';
import type { Checkpoint, SafetensorsFile } from './api.js';

const OP = 'openBitsandbytes';

const STATES = [...BNB_TABLES.keys(), 'af4'].map((type) => QUANT_STATE + type);
const OWN = [...STATES, 'weight.absmax', 'weight.quant_map', 'weight.nested_absmax', 'weight.nested_quant_map', 'SCB', 'weight_format'];
/** 4-bit codes may be stored as numbers of any of these (`bnb_4bit_quant_storage`). */
const STORAGE = ['U8', 'I8', 'F16', 'BF16', 'F32'];
const STATE_FIELDS = ['quant_type', 'blocksize', 'dtype', 'shape', 'nested_blocksize', 'nested_dtype', 'nested_offset'];
/** The JSON has about 200 bytes. */
const MAX_STATE_BYTES = 65536;

export interface OpenBitsandbytesOpts {
  /** Names the configuration in errors. Default `config.json`. */
  file?: string;
}

/**
 * Opens a bitsandbytes checkpoint: `<module>.weight` is `lut` [out, in] of 4 bits, or `affine` of 8 with a scale per row, whose inputs
 * are those of LLM.int8() with the configuration's `llm_int8_threshold`; everything else as it is. Which linears are quantized, and how, the tensors say; the configuration must not say 8 bits of 4-bit ones or the other way round.
 * @param physical one file or all shards; closed by the result's `close`
 * @param config `quantization_config` of config.json
 * @throws LmqError `model/unsupported` for a variant that is not read, `model/config` for a configuration that contradicts the file,
 * `file/format` for parts that are missing, left over or do not fit. `read` throws the last one as well, for what data shows, and
 * `model/unsupported` for a table that is not the one of its name: runtimes would not look at it
 */
export async function openBitsandbytes(
  physical: SafetensorsFile,
  config: unknown,
  { file = 'config.json' }: OpenBitsandbytesOpts = {},
): Promise<Checkpoint> {
  const bits = bitsOf(config, file);
  const threshold = thresholdOf(config, file);
  const format = { format: 'bitsandbytes', op: OP, parts: ['weight', ...OWN], own: OWN, marks: [...STATES, 'SCB'] } as const;
  return openPackedByData(physical, format, async (linear) => {
    const found = linear.parts.has('SCB') ? 8 : 4;
    if (found !== bits)
      fail('model/config', 'the configuration names other bits than the tensors have', {
        ...linear.where,
        expected: `load_in_${bits}bit`,
        found: `${found} bits`,
        hint: `Set load_in_${found}bit in ${file}.`,
      });
    return found === 8 ? planRows(linear, threshold) : planTable(linear);
  });
}

function bitsOf(config: unknown, file: string): 4 | 8 {
  const where = { op: OP, file };
  const fields = configFields(config, where);
  const method = configText(fields, ['quant_method'], where) ?? 'bitsandbytes';
  if (method !== 'bitsandbytes')
    fail('model/config', 'the configuration is not one of bitsandbytes', {
      ...where,
      expected: 'quant_method bitsandbytes',
      found: method,
    });
  const flag = (bits: 4 | 8) =>
    configFlag(fields, `load_in_${bits}bit`, where) ?? configFlag(fields, `_load_in_${bits}bit`, where) ?? false;
  const [four, eight] = [flag(4), flag(8)];
  if (four === eight)
    fail('model/config', 'the configuration does not say how many bits', {
      ...where,
      expected: 'one of load_in_4bit and load_in_8bit',
      found: four ? 'both' : 'neither',
    });
  if (configFlag(fields, 'llm_int8_has_fp16_weight', where) && eight)
    fail('model/unsupported', 'the weights are kept in 16 bits and quantized when they are used', {
      ...where,
      found: 'llm_int8_has_fp16_weight',
      hint: 'Open the checkpoint without its quantization_config.',
    });
  return four ? 4 : 8;
}

/** Columns of an input with a magnitude of at least this are multiplied in floating point: 6 where nothing is said, as in Hugging Face. */
function thresholdOf(config: unknown, file: string): number {
  const where = { op: OP, file };
  const threshold = field(configFields(config, where), 'llm_int8_threshold') ?? 6;
  if (typeof threshold === 'number' && threshold >= 0 && threshold < Number.POSITIVE_INFINITY) return threshold;
  return fail('model/config', 'llm_int8_threshold is not a magnitude', { ...where, expected: 'a number >= 0', found: threshold });
}

/** LLM.int8(). */
function planRows(linear: PackedLinear, threshold: number): LinearPlan {
  const { where, parts } = linear;
  for (const part of parts.keys())
    if (part.startsWith('weight.')) fail('file/format', 'a linear has parts of 4 and of 8 bits', { ...where, found: part });
  const [out, inputs] = linear.shape('weight', ['I8'], 2) as [number, number];
  const [n] = linear.shape('SCB', ['F32'], 1);
  if (n !== out) wrongShape(linear, 'SCB', [out]);
  if (parts.has('weight_format')) linear.shape('weight_format', ['U8'], 0);
  return {
    shape: [out, inputs],
    format: formatName(8, inputs, inputs),
    input: { kind: 'llm-int8', threshold },
    async read() {
      const [order] = parts.has('weight_format') ? await linear.bytes('weight_format') : [0];
      if (order !== 0)
        fail('model/unsupported', 'the weights are in the order of a GPU', {
          ...where,
          op: 'read',
          expected: 'weight_format 0 (row)',
          found: order,
          hint: 'Save the model with bitsandbytes 0.37 or later.',
        });
      return {
        kind: 'affine',
        shape: [out, inputs],
        bits: 8,
        groupSize: inputs,
        codes: shiftMiddle(await linear.bytes('weight')),
        scales: { block: [1, inputs], format: 'fp32', data: scalesOfMaxima(typedView(await linear.bytes('SCB'), Float32Array)) },
      };
    },
  };
}

/** NF4 and FP4. */
async function planTable(linear: PackedLinear): Promise<LinearPlan> {
  const { where, parts } = linear;
  const states = STATES.filter((s) => parts.has(s));
  if (states.length > 1) fail('file/format', 'a linear has several quant_states', { ...where, found: states.join(', ') });
  const type = states[0]!.slice(QUANT_STATE.length);
  const table = BNB_TABLES.get(type);
  if (!table)
    return fail('model/unsupported', 'a table that bitsandbytes does not store weights of', {
      ...where,
      expected: [...BNB_TABLES.keys()].join(', '),
      found: type,
    });
  const state = await readState(linear, states[0]!, type);
  const [out, inputs] = state.shape;
  const count = out * inputs;
  linear.shape('weight', STORAGE, 2);
  const { bytes } = parts.get('weight')!;
  if (bytes !== Math.ceil(count / 2))
    fail('file/format', 'weight does not fit quant_state', {
      ...where,
      expected: `${Math.ceil(count / 2)} bytes for [${out}, ${inputs}]`,
      found: `${bytes} bytes`,
    });
  const blocks = Math.ceil(count / state.blockSize);
  const vector = (part: string, dtype: string, length: number) => {
    const [n] = linear.shape(part, [dtype], 1);
    if (n !== length) wrongShape(linear, part, [length]);
  };
  vector('weight.quant_map', 'F32', 16);
  vector('weight.absmax', state.nested ? 'U8' : 'F32', blocks);
  if (state.nested) {
    vector('weight.nested_quant_map', 'F32', 256);
    vector('weight.nested_absmax', 'F32', Math.ceil(blocks / state.nested.blockSize));
  }
  return {
    shape: [out, inputs],
    format: `lut 4-bit ${type} flat ${state.blockSize}${state.nested ? ' table8' : ''}`,
    async read(): Promise<Lut> {
      const floats = async (part: string) => typedView(await linear.bytes(part), Float32Array);
      const values = await floats('weight.quant_map');
      checkTable(values, table, type, linear);
      const block = { flat: Math.min(state.blockSize, count) };
      const absmax = await linear.bytes('weight.absmax');
      const scales: Scales = state.nested
        ? {
            block,
            format: 'table8',
            data: absmax,
            table: await floats('weight.nested_quant_map'),
            outer: {
              scales: {
                block: { flat: Math.min(state.nested.blockSize, blocks) },
                format: 'fp32',
                data: await floats('weight.nested_absmax'),
              },
              offset: state.nested.offset,
            },
          }
        : { block, format: 'fp32', data: typedView(absmax, Float32Array) };
      const codes = rowsOfStream(await linear.bytes('weight'), out, inputs);
      return { kind: 'lut', shape: [out, inputs], bits: 4, codes, tables: matrix(values, 1, 16), tablePer: 'tensor', scales };
    },
  };
}

interface QuantState {
  shape: [out: number, inputs: number];
  blockSize: number;
  nested?: { blockSize: number; offset: number };
}

/** The JSON of a linear. */
async function readState(linear: PackedLinear, part: string, type: string): Promise<QuantState> {
  const { where, parts } = linear;
  const bad = (what: string, expected: unknown, found: unknown): never =>
    fail('file/format', what, { ...where, expected, found: found ?? 'nothing' });
  linear.shape(part, ['U8'], 1);
  const { bytes } = parts.get(part)!;
  if (bytes > MAX_STATE_BYTES)
    fail('file/limit', 'quant_state is too large', { ...where, expected: `at most ${MAX_STATE_BYTES} bytes`, found: bytes });
  const value = jsonOf(await linear.bytes(part), where);
  const of = fieldsOf(value) ?? bad('quant_state is not an object', 'an object', value);
  for (const key of Object.keys(of)) if (!STATE_FIELDS.includes(key)) bad('quant_state has an unknown field', STATE_FIELDS.join(', '), key);
  if (field(of, 'quant_type') !== type) bad('quant_state is of another type than its name', type, field(of, 'quant_type'));
  const dtype = field(of, 'dtype');
  if (!['float32', 'float16', 'bfloat16'].includes(dtype as string)) bad('dtype is unknown', 'float32, float16 or bfloat16', dtype);
  const shape = field(of, 'shape');
  if (!Array.isArray(shape) || shape.length !== 2) return bad('the shape is not that of a matrix', 'two numbers', shape);
  const [out, inputs] = [countOf(shape[0], 'shape', bad), countOf(shape[1], 'shape', bad)];
  const nested = parts.has('weight.nested_absmax') || parts.has('weight.nested_quant_map');
  if (!nested && (field(of, 'nested_blocksize') ?? field(of, 'nested_offset')) !== undefined)
    bad('the scales of the scales are missing', `${linear.module}.weight.nested_absmax`, undefined);
  return {
    shape: [out, inputs],
    blockSize: countOf(field(of, 'blocksize'), 'blocksize', bad),
    ...(nested && { nested: nestedOf(of, bad) }),
  };
}

function jsonOf(bytes: Uint8Array, where: PackedLinear['where']): unknown {
  const { op, file } = where as { op: string; file: string };
  try {
    const json = createJsonReader(bytes, { op, file });
    const value = json.value();
    json.end();
    return value;
  } catch (cause) {
    if (!isLmqError(cause)) throw cause;
    return fail('file/format', 'quant_state is not JSON', { ...where, expected: 'one JSON object', found: cause.message, cause });
  }
}

type Bad = (what: string, expected: unknown, found: unknown) => never;

function nestedOf(of: Fields, bad: Bad): NonNullable<QuantState['nested']> {
  const dtype = field(of, 'nested_dtype');
  if (dtype !== 'float32') bad('the scales of the scales are not in float32', 'nested_dtype float32', dtype);
  const offset = field(of, 'nested_offset');
  if (typeof offset !== 'number' || !Number.isFinite(Math.fround(offset))) return bad('nested_offset is not a number', 'a number', offset);
  return { blockSize: countOf(field(of, 'nested_blocksize'), 'nested_blocksize', bad), offset: Math.fround(offset) };
}

function countOf(value: unknown, what: string, bad: Bad): number {
  const ok = typeof value === 'number' && Number.isInteger(value) && value >= 1 && value < 2 ** 32;
  return ok ? value : bad(`${what} is out of range`, 'a positive integer', value);
}

/** Another table under a known name. */
function checkTable(values: Float32Array, table: readonly number[], type: string, { where }: PackedLinear): void {
  const at = otherCode(values, table);
  if (at >= 0)
    fail('model/unsupported', `quant_map is not the table ${type}`, {
      ...where,
      op: 'read',
      expected: `${table[at]} for code ${at}`,
      found: values[at],
      hint: 'Runtimes have the table built in and would not look at this one.',
    });
}
