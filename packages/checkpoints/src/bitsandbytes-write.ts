/**
 * Writing bitsandbytes checkpoints: a table of 16 (NF4, FP4) or 8-bit rows (LLM.int8()) as the tensors of a linear, and the configuration
 * that goes beside them.
 * @module
 */

import { scaleValues, validate, zeroValues } from '@lmq/formats';
import { type Affine, type CompressedTensor, checkOneOf, contiguous, type FloatFormat, type Lut, type Scales } from '@lmq/tensor';
import { moduleOf, type Refuse, refusal } from './_affine-export.js';
import { BNB_BLOCKS, BNB_TABLES, maximumOfScale, otherCode, QUANT_STATE, shiftMiddle, streamOfRows } from './_bitsandbytes.js';
import { bytesOf } from './_floats.js';
import type { TensorToWrite } from './api.js';

const DTYPES: Record<FloatFormat, string> = { fp32: 'float32', fp16: 'float16', bf16: 'bfloat16' };
const FORMATS = Object.keys(DTYPES) as FloatFormat[];

export interface BitsandbytesTensorsOpts {
  /** What runtimes decode 4-bit weights to; the format that the model's weights had. */
  dtype: FloatFormat;
}

/**
 * `<module>.weight` and what goes with it, codes as they are. A `lut` of the table NF4 or FP4: `.absmax`, `.quant_map`, `.quant_state…`, and
 * `.nested_*` for double quantization; scales of any other format are stored as the float32 they are. An `affine` of 8 bits: int8 and the
 * largest magnitude of each row, `<module>.SCB`. A bias is written beside them like any other tensor.
 * @throws LmqError `export/unsupported` for what the format cannot hold: other layouts, tables and widths, blocks that bitsandbytes has not,
 * 8-bit zero points and groups, 8-bit scales that are no float32 divided by 127 (those of fp16 and bf16 all are); `argument/*`
 */
export function toBitsandbytesTensors(name: string, tensor: CompressedTensor, { dtype }: BitsandbytesTensorsOpts): TensorToWrite[] {
  const op = 'toBitsandbytesTensors';
  checkOneOf(dtype, 'dtype', FORMATS, op);
  const module = moduleOf(name, op);
  const refuse = refusal(name, op);
  const { kind } = tensor;
  if (kind !== 'lut' && kind !== 'affine')
    return refuse('the layout cannot be stored', 'lut of nf4 or fp4, or affine', kind, 'Quantize to nf4 or fp4.');
  validate(tensor);
  return tensor.kind === 'lut' ? tableTensors(module, tensor, DTYPES[dtype], refuse) : rowTensors(module, tensor, refuse);
}

function tableTensors(module: string, t: Lut, dtype: string, refuse: Refuse): TensorToWrite[] {
  const [out, inputs] = t.shape;
  const values = contiguous(t.tables);
  const [type] = [...BNB_TABLES].find(([, table]) => t.tablePer === 'tensor' && t.bits === 4 && otherCode(values, table) < 0) ?? [];
  if (type === undefined)
    return refuse('the table cannot be stored', 'nf4 or fp4 for the whole tensor', `${t.bits} bits per ${t.tablePer}`);
  if (!t.scales) return refuse('a table without scales cannot be stored', 'a scale per run of weights', 'none');
  const { scales } = t;
  const weights = out * inputs;
  const blocksize = blockOf(
    flatOf(scales, inputs) ?? refuse('blocks of scales that are not runs', '{ flat }', scales.block),
    weights,
    refuse,
  );
  const part = (name: string, shape: number[], type: string, data: ArrayBufferView): TensorToWrite => {
    return { name: `${module}.${name}`, shape, dtype: type, bytes: () => bytesOf(data) };
  };
  const { outer } = scales.outer?.scales.format === 'fp32' ? scales : {};
  const count = scales.data.length;
  const state = {
    quant_type: type,
    blocksize,
    dtype,
    shape: [out, inputs],
    ...(outer && {
      nested_blocksize: nestedBlock(outer.scales.block.flat, count, refuse),
      nested_dtype: 'float32',
      nested_offset: outer.offset,
    }),
  };
  const json = new TextEncoder().encode(JSON.stringify(state));
  return [
    { name: `${module}.weight`, shape: [Math.ceil(weights / 2), 1], dtype: 'U8', bytes: () => streamOfRows(t.codes, out, inputs) },
    outer
      ? part('weight.absmax', [count], 'U8', scales.data)
      : { name: `${module}.weight.absmax`, shape: [count], dtype: 'F32', bytes: () => bytesOf(scaleValues(scales)) },
    part('weight.quant_map', [16], 'F32', values),
    ...(outer
      ? [
          part('weight.nested_absmax', [outer.scales.data.length], 'F32', outer.scales.data),
          part('weight.nested_quant_map', [256], 'F32', scales.table!),
        ]
      : []),
    part(QUANT_STATE + type, [json.length], 'U8', json),
  ];
}

/** Weights per scale where scales are those of runs in row-major order. */
function flatOf({ block }: Scales, inputs: number): number | undefined {
  if (!Array.isArray(block)) return block.flat;
  return block[0] === 1 && inputs % block[1] === 0 ? block[1] : undefined;
}

/** The block size to write: the smallest that bitsandbytes has, where one block is all there is. */
function blockOf(flat: number, count: number, refuse: Refuse): number {
  const found = flat < count ? BNB_BLOCKS.find((b) => b === flat) : BNB_BLOCKS.find((b) => b >= flat);
  return found ?? refuse('blocks of this size cannot be stored', BNB_BLOCKS.join(', '), flat);
}

/** Fused kernels of bitsandbytes have the number of scales that share a scale built in. */
function nestedBlock(flat: number, count: number, refuse: Refuse): number {
  return flat === 256 || (flat === count && count < 256)
    ? 256
    : refuse('scales of scales of runs of this size cannot be stored', 256, flat);
}

function rowTensors(module: string, t: Affine, refuse: Refuse): TensorToWrite[] {
  const [out, inputs] = t.shape;
  const { block } = t.scales;
  if (t.bits !== 8) refuse('codes of this width cannot be stored', '8 bits', t.bits, 'Quantize to 8 bits, or to nf4 or fp4.');
  if (block[1] < inputs) refuse('groups cannot be stored', 'a scale per row', `groups of ${block[1]}`);
  if (t.zeroPoints && (zeroValues(t, 0, t.scales.data.length) as Float32Array).some((z) => z !== 128))
    refuse('zero points cannot be stored', 'symmetric codes', 'zero points');
  const maxima = scaleValues(t.scales).map((scale) => {
    const maximum = maximumOfScale(scale);
    return maximum ?? refuse('a scale is no float32 divided by 127', 'scales in fp16 or bf16', scale, 'Quantize with fp16 scales.');
  });
  const perRow = Float32Array.from({ length: out }, (_, r) => maxima[Math.floor(r / block[0])]!);
  return [
    { name: `${module}.weight`, shape: [out, inputs], dtype: 'I8', bytes: () => shiftMiddle(t.codes) },
    { name: `${module}.SCB`, shape: [out], dtype: 'F32', bytes: () => bytesOf(perRow) },
    { name: `${module}.weight_format`, shape: [], dtype: 'U8', bytes: () => new Uint8Array(1) },
  ];
}

export interface BitsandbytesConfigOpts {
  type: 'nf4' | 'fp4' | 'int8';
  /** Whether scales of 4-bit weights are quantized. Default false. */
  doubleQuant?: boolean;
  /** What runtimes compute with. Default `bf16`. */
  computeDtype?: FloatFormat;
  /** Modules whose weights are not quantized. Default none: runtimes then leave out the output head. */
  skipModules?: readonly string[];
}

/**
 * The configuration of a bitsandbytes checkpoint: `quantization_config` of config.json. The threshold of LLM.int8() is left to its default:
 * Hugging Face takes it only as a number with a point, which JSON from JavaScript does not have.
 * @throws LmqError `argument/option`
 */
export function bitsandbytesConfig(opts: BitsandbytesConfigOpts): Record<string, unknown> {
  const op = 'bitsandbytesConfig';
  const { doubleQuant = false, skipModules } = opts;
  const type = checkOneOf(opts.type, 'type', ['nf4', 'fp4', 'int8'], op);
  const compute = DTYPES[checkOneOf(opts.computeDtype ?? 'bf16', 'computeDtype', FORMATS, op)];
  const eight = type === 'int8';
  return {
    quant_method: 'bitsandbytes',
    load_in_4bit: !eight,
    load_in_8bit: eight,
    bnb_4bit_quant_type: eight ? 'fp4' : type,
    bnb_4bit_use_double_quant: doubleQuant,
    bnb_4bit_compute_dtype: compute,
    bnb_4bit_quant_storage: 'uint8',
    llm_int8_has_fp16_weight: false,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_skip_modules: skipModules?.length ? [...skipModules] : null,
  };
}
