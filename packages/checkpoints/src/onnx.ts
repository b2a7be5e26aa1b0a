/**
 * Reading the weights of an ONNX model: its initializers, and what its `MatMulNBits` nodes multiply with, as affine tensors. The graph itself
 * is not run; a dense weight has the names and the orientation that the exporter gave it.
 * @module
 */
import { matMulNBitsToAffine } from '@lmq/formats';
import { type CompressedTensor, type ErrorFacts, type FloatFormat, isLmqError, LmqError } from '@lmq/tensor';
import { checkRange, countOf, fail, missingTensor, mulSafe } from './_checks.js';
import { denseOf, floatData } from './_floats.js';
import { type OnnxInitializer, type OnnxMatMul, parseOnnx } from './_onnx-header.js';
import type { ByteSource, Checkpoint, TensorInfo } from './api.js';
import { ONNX_TYPES } from './onnx-model.js';

const OP = 'openOnnx';

/** By `TensorProto.DataType`: bytes per element, and what `TensorInfo.format` says. */
const TYPES = new Map<number, { bytes: number; format: string }>([
  [ONNX_TYPES.FLOAT.id, { bytes: 4, format: 'fp32' }],
  [ONNX_TYPES.FLOAT16.id, { bytes: 2, format: 'fp16' }],
  [ONNX_TYPES.BFLOAT16.id, { bytes: 2, format: 'bf16' }],
  [ONNX_TYPES.DOUBLE.id, { bytes: 8, format: 'fp64' }],
  [ONNX_TYPES.UINT8.id, { bytes: 1, format: 'uint8' }],
  [ONNX_TYPES.INT8.id, { bytes: 1, format: 'int8' }],
  [ONNX_TYPES.INT32.id, { bytes: 4, format: 'int32' }],
  [ONNX_TYPES.INT64.id, { bytes: 8, format: 'int64' }],
  [ONNX_TYPES.BOOL.id, { bytes: 1, format: 'bool' }],
]);
const FLOATS: readonly string[] = ['fp32', 'fp16', 'bf16'];

/** What exporters add to a weight's name when they pack it: `_Q4`, `_DQ_Q4`, `_Q4G32`, `_quant`. */
const PACKED_SUFFIX = /_(?:DQ_)?(?:Q\d(?:G\d+)?|quant)$/;

export interface OpenOnnxOpts {
  /** Opens a file of weights beside the model. A model that names one cannot be read without. */
  openData?: (location: string) => Promise<ByteSource>;
}

/** One quantized weight. */
interface Packed {
  shape: [number, number];
  bits: number;
  blockSize: number;
  codes: OnnxInitializer;
  scales: OnnxInitializer;
  zeroPoints?: OnnxInitializer;
}

/**
 * Opens an ONNX model and checks what it says of its weights. Data is read later, tensor by tensor; files beside the model are opened when
 * they are needed. Codes of 2, 4 and 8 bits in `MatMulNBits` become affine tensors, named like their codes without `_Q4`. The source stays the
 * caller's when this throws.
 * @throws LmqError `file/truncated`, `file/limit`, `file/format`; `model/unsupported` for `MatMulNBits` with a group index or with zero
 * points in floats
 */
export async function openOnnx(source: ByteSource, { openData }: OpenOnnxOpts = {}): Promise<Checkpoint> {
  const file = source.name;
  const { initializers, matMuls, metadata } = await parseOnnx(source);
  const tensors = new Map<string, TensorInfo>();
  const packed = new Map<string, Packed>();
  const parts = new Set<string>();
  for (const node of matMuls) {
    const p = packedOf(node, initializers, file);
    if (!p || parts.has(p.codes.name)) continue;
    const own = [p.codes, p.scales, ...(p.zeroPoints ? [p.zeroPoints] : [])];
    for (const { name } of own) parts.add(name);
    const short = p.codes.name.replace(PACKED_SUFFIX, '');
    const name = short === '' || initializers.has(short) || packed.has(short) ? p.codes.name : short;
    packed.set(name, p);
    const format = `affine ${p.bits}-bit g${p.blockSize} ${p.zeroPoints ? 'asym' : 'sym'}`;
    tensors.set(name, { name, shape: p.shape, format, bytes: own.reduce((sum, t) => sum + bytesOf(t, file), 0), file });
  }
  for (const [name, t] of initializers) {
    if (parts.has(name)) continue;
    const format = TYPES.get(t.type)?.format ?? `ONNX type ${t.type}`;
    tensors.set(name, { name, shape: t.shape, format, bytes: TYPES.has(t.type) ? bytesOf(t, file) : 0, file });
  }

  const opened = new Map<string, Promise<ByteSource>>();
  const beside = (location: string, facts: ErrorFacts): Promise<ByteSource> => {
    const before = opened.get(location);
    if (before) return before;
    if (!openData)
      fail('file/missing', 'the weights lie in another file', { ...facts, found: location, hint: 'Say how to open it: openData.' });
    const now = openData!(location);
    opened.set(location, now);
    return now;
  };
  const dataOf = async (t: OnnxInitializer): Promise<Uint8Array> => {
    const { data } = t;
    const length = bytesOf(t, file);
    const facts = { op: 'read', file, tensor: t.name, offset: t.offset };
    if (data.kind === 'other') return fail('model/unsupported', 'the numbers are not stored as raw data', facts);
    const stored = data.kind === 'inside' ? data.to - data.from : (data.length ?? length);
    if (stored !== length) fail('file/format', 'the data is not as long as the shape says', { ...facts, expected: length, found: stored });
    if (data.kind === 'inside') return source.read(data.from, length);
    const from = await beside(data.location, facts);
    checkRange(from, data.offset, length);
    return from.read(data.offset, length);
  };

  return {
    format: 'onnx',
    tensors,
    metadata,
    async read(name): Promise<CompressedTensor> {
      const p = packed.get(name);
      if (p) {
        const scaleFormat = TYPES.get(p.scales.type)!.format as FloatFormat;
        const scales = floatData(await dataOf(p.scales), scaleFormat);
        const zeroPoints = p.zeroPoints && (await dataOf(p.zeroPoints));
        const { shape, bits, blockSize } = p;
        try {
          return matMulNBitsToAffine({
            shape,
            bits,
            blockSize,
            codes: await dataOf(p.codes),
            scaleFormat,
            scales,
            ...(zeroPoints && { zeroPoints }),
          });
        } catch (cause) {
          if (!isLmqError(cause) || !cause.code.startsWith('argument/')) throw cause;
          const { expected, found } = cause.facts;
          const facts = { op: 'read', file, tensor: name, offset: p.codes.offset, expected, found, cause };
          throw new LmqError('file/format', `the stored tensor is damaged: ${cause.message}`, facts);
        }
      }
      const t = parts.has(name) ? undefined : initializers.get(name);
      if (!t) return missingTensor(name, file, 'read');
      const format = TYPES.get(t.type)?.format;
      if (format !== undefined && FLOATS.includes(format)) return denseOf(await dataOf(t), format as FloatFormat, t.shape);
      return fail('model/unsupported', 'the element type is not one lmq computes with', {
        op: 'read',
        file,
        tensor: name,
        offset: t.offset,
        expected: FLOATS.join(', '),
        found: format ?? `ONNX type ${t.type}`,
      });
    },
    async close() {
      const all = await Promise.allSettled(opened.values());
      for (const s of all) if (s.status === 'fulfilled') await s.value.close();
      await source.close();
    },
  };
}

function bytesOf(t: OnnxInitializer, file: string): number {
  const count = countOf(t.shape);
  const bytes = count === null ? null : mulSafe(count, TYPES.get(t.type)?.bytes ?? 1);
  return (
    bytes ??
    fail('file/format', 'the shape is too large', { op: OP, file, tensor: t.name, offset: t.offset, found: `[${t.shape.join(', ')}]` })
  );
}

/** What a node multiplies with; undefined when its codes are no constant of the graph. */
function packedOf(
  { inputs, attributes, offset }: OnnxMatMul,
  initializers: ReadonlyMap<string, OnnxInitializer>,
  file: string,
): Packed | undefined {
  const [, b = '', s = '', z = '', index = ''] = inputs;
  const codes = initializers.get(b);
  if (!codes) return undefined;
  const at = { op: OP, file, tensor: b, offset };
  const attribute = (name: string, fallback?: number): number => {
    const value = attributes.get(name) ?? fallback;
    if (value !== undefined && value >= 1 && value <= 2 ** 31) return value;
    return fail('file/format', `MatMulNBits has no usable ${name}`, { ...at, expected: '1 … 2147483648', found: value });
  };
  const [outs, ins, bits, blockSize] = [attribute('N'), attribute('K'), attribute('bits', 4), attribute('block_size')];
  if (![2, 4, 8].includes(bits))
    fail('file/format', 'MatMulNBits has codes of another width', { ...at, expected: '2, 4 or 8', found: bits });
  if (blockSize < 16 || (blockSize & (blockSize - 1)) !== 0)
    fail('file/format', 'MatMulNBits has no usable block_size', { ...at, expected: 'a power of two from 16 on', found: blockSize });
  if (index !== '') fail('model/unsupported', 'MatMulNBits has a group index', { ...at, hint: 'Export with groups in order.' });
  const part = (name: string, types: readonly number[], what: string): OnnxInitializer => {
    const t = initializers.get(name);
    if (!t) return fail('file/format', `MatMulNBits has no constant ${what}`, { ...at, found: name });
    if (types.includes(t.type)) return t;
    const code = what === 'zero points' && TYPES.has(t.type) ? 'model/unsupported' : 'file/format';
    return fail(code, `the ${what} of MatMulNBits are of another type`, { ...at, found: TYPES.get(t.type)?.format ?? t.type });
  };
  const uint8 = [ONNX_TYPES.UINT8.id];
  const scales = part(s, [ONNX_TYPES.FLOAT.id, ONNX_TYPES.FLOAT16.id, ONNX_TYPES.BFLOAT16.id], 'scales');
  return {
    shape: [outs, ins],
    bits,
    blockSize,
    codes: part(b, uint8, 'codes'),
    scales,
    ...(z !== '' && { zeroPoints: part(z, uint8, 'zero points') }),
  };
}
