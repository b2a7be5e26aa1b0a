/**
 * What an ONNX file says of its weights: initializers, without their data, and the nodes that multiply with quantized ones. Field numbers
 * are those of onnx.proto.
 * @module
 */
import { fail, isReserved, MAX_DIM, MAX_RANK } from './_checks.js';
import { BYTES } from './_protobuf.js';
import { createProtoReader, type ProtoReader, type ProtoSpan, type ReadField } from './_protobuf-reader.js';
import type { ByteSource } from './api.js';

const OP = 'openOnnx';
const MAX_TENSORS = 2 ** 20;
const MAX_INPUTS = 2 ** 16;
const FLOAT = 1;

/** A file name beside the model, as in the index of shards: no path, drive, NUL or escape. */
const PLAIN_NAME = /^\w[\w.-]*$/;

/** Where a tensor's bytes lie: in the file itself, in one beside it, or as numbers that this reader does not take. */
export type OnnxData =
  | ({ kind: 'inside' } & ProtoSpan)
  | { kind: 'beside'; location: string; offset: number; length: number | undefined }
  | { kind: 'other' };

export interface OnnxInitializer {
  name: string;
  /** `TensorProto.DataType`. */
  type: number;
  shape: number[];
  data: OnnxData;
  /** Of its description. */
  offset: number;
}

export interface OnnxMatMul {
  inputs: string[];
  /** Those that are integers. */
  attributes: Map<string, number>;
  offset: number;
}

export interface OnnxHeader {
  initializers: Map<string, OnnxInitializer>;
  matMuls: OnnxMatMul[];
  metadata: Map<string, string>;
}

/** @throws LmqError `file/truncated`, `file/limit`, `file/format` */
export async function parseOnnx(source: ByteSource): Promise<OnnxHeader> {
  const file = source.name;
  const reader = createProtoReader(source, OP);
  const header: OnnxHeader = { initializers: new Map(), matMuls: [], metadata: new Map() };
  let graphs = 0;
  await reader.fields({ from: 0, to: source.size }, async (f) => {
    if (f.field === 7 && f.wire === BYTES) {
      graphs++;
      await readGraph(reader, f, header, file);
    } else if (f.field === 14 && f.wire === BYTES) {
      const [key = '', value = ''] = await readPair(reader, f);
      header.metadata.set(key, value);
    }
  });
  if (graphs !== 1) fail('file/format', 'this is not an ONNX model', { op: OP, file, offset: 0, expected: 'one graph', found: graphs });
  return header;
}

async function readGraph(reader: ProtoReader, graph: ProtoSpan, { initializers, matMuls }: OnnxHeader, file: string): Promise<void> {
  await reader.fields(graph, async (f) => {
    if (f.wire !== BYTES) return;
    if (f.field === 1) {
      const node = await readNode(reader, f);
      if (node) matMuls.push(node);
    } else if (f.field === 5) {
      const t = await readTensor(reader, f, file);
      const at = { op: OP, file, tensor: t.name, offset: t.offset };
      if (t.name === '' || isReserved(t.name)) fail('file/format', 'not a tensor name', at);
      if (initializers.has(t.name)) fail('file/format', 'two tensors have one name', at);
      if (initializers.size >= MAX_TENSORS) fail('file/limit', 'there are too many tensors', { ...at, expected: `at most ${MAX_TENSORS}` });
      initializers.set(t.name, t);
    }
  });
}

async function readNode(reader: ProtoReader, node: ReadField): Promise<OnnxMatMul | undefined> {
  const inputs: string[] = [];
  const attributes = new Map<string, number>();
  let op = '';
  let domain = '';
  await reader.fields(node, async (f) => {
    if (f.field === 1 && inputs.length < MAX_INPUTS) inputs.push(await reader.text(f));
    else if (f.field === 4) op = await reader.text(f);
    else if (f.field === 7) domain = await reader.text(f);
    else if (f.field === 5 && f.wire === BYTES) {
      let name = '';
      let value = Number.NaN;
      await reader.fields(f, async (part) => {
        if (part.field === 1) name = await reader.text(part);
        else if (part.field === 3) value = part.value;
      });
      if (!Number.isNaN(value)) attributes.set(name, value);
    }
  });
  return op === 'MatMulNBits' && domain === 'com.microsoft' ? { inputs, attributes, offset: node.from } : undefined;
}

async function readTensor(reader: ProtoReader, tensor: ReadField, file: string): Promise<OnnxInitializer> {
  const offset = tensor.from;
  const t: OnnxInitializer = { name: '', type: 0, shape: [], data: { kind: 'other' }, offset };
  const external = new Map<string, string>();
  await reader.fields(tensor, async (f) => {
    if (f.field === 1) await reader.integers(f, t.shape, MAX_RANK);
    else if (f.field === 2) t.type = f.value;
    else if (f.field === 8) t.name = await reader.text(f);
    else if (f.field === 9 || (f.field === 4 && t.type === FLOAT && f.wire === BYTES)) t.data = { kind: 'inside', from: f.from, to: f.to };
    else if (f.field === 13 && f.wire === BYTES) {
      const [key = '', value = ''] = await readPair(reader, f);
      external.set(key, value);
    }
  });
  const at = { op: OP, file, tensor: t.name, offset };
  if (!t.shape.every((d) => d >= 0 && d <= MAX_DIM)) fail('file/format', 'not a shape', { ...at, found: `[${t.shape.join(', ')}]` });
  if (!external.size) return t;
  const location = external.get('location') ?? '';
  if (location.length > 255 || !PLAIN_NAME.test(location) || location.includes('..')) {
    const expected = 'a file beside the model, such as model.onnx_data';
    fail('file/format', 'the data lies in a file of another kind of name', { ...at, expected, found: location });
  }
  const number = (key: string): number | undefined => {
    const text = external.get(key);
    if (text === undefined || /^\d{1,15}$/.test(text)) return text === undefined ? undefined : Number(text);
    return fail('file/format', `the ${key} of the data is not a number`, { ...at, found: text });
  };
  return { ...t, data: { kind: 'beside', location, offset: number('offset') ?? 0, length: number('length') } };
}

/** A message of a key (1) and a value (2). */
async function readPair(reader: ProtoReader, pair: ProtoSpan): Promise<[key?: string, value?: string]> {
  const texts: [string?, string?] = [];
  await reader.fields(pair, async (f) => {
    if (f.field === 1 || f.field === 2) texts[f.field - 1] = await reader.text(f);
  });
  return texts;
}
