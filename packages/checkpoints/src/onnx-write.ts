/**
 * Writing ONNX: the graph as one protocol buffer, which may not be longer than 2 GB, and its weights as external data beside it, one tensor
 * in memory at a time. Field numbers are those of onnx.proto (IR version 8, ONNX 1.12).
 * @module
 */
import { countOf, fail, MAX_DIM, mulSafe, roundUp } from './_checks.js';
import { concat } from './_concat.js';
import { protoFloat, protoMessage } from './_protobuf.js';
import type { ByteSink, TensorToWrite } from './api.js';
import {
  ONNX_TYPES,
  type OnnxAttribute,
  type OnnxConstant,
  type OnnxGraph,
  type OnnxNode,
  type OnnxType,
  type OnnxValue,
} from './onnx-model.js';

const OP = 'planOnnx';
const IR_VERSION = 8;
const EXTERNAL = 1;

/** Data begins on a multiple of this, so that files can be mapped; large tensors on a page. */
const ALIGNMENT = 64;
const PAGE = 4096;
const LARGE = 2 ** 20;

export interface OnnxOpts {
  /** Version of the operators of each domain; `''` are the standard ones. */
  opsets: readonly (readonly [domain: string, version: number])[];
  /** Name of the first file of weights; the next are `<dataName>_1`, `<dataName>_2`, as transformers.js looks for them. */
  dataName: string;
  /** Bytes in one of them; a larger tensor gets a file of its own. Default 2e9: browsers hold no longer ones. */
  maxDataBytes?: number;
  /** Name of the tool that wrote the model. */
  producer: string;
}

/** A tensor and where it begins in its file. */
interface Placed {
  tensor: TensorToWrite;
  offset: number;
  bytes: number;
}

/** One file of weights. */
export interface OnnxDataFile {
  name: string;
  bytes: number;
  tensors: readonly Placed[];
}

/** What to write: the graph, and the files of weights that it names. */
export interface OnnxPlan {
  model: Uint8Array;
  files: readonly OnnxDataFile[];
}

/**
 * Lays a model out. No tensor is asked for its bytes yet.
 * @throws LmqError `argument/value` for unknown element types, two values of one name, an input of a node that nothing makes (nodes come in
 * the order of work), a graph longer than 2 GB; `argument/shape` for shapes that cannot be stored
 */
export function planOnnx(graph: OnnxGraph, { opsets, dataName, maxDataBytes = 2e9, producer }: OnnxOpts): OnnxPlan {
  checkNames(graph);
  const files = place(graph.tensors, dataName, maxDataBytes);
  const external = files.flatMap((f) => f.tensors.map((t) => externalTensor(t, f.name)));
  const body = concat([
    protoMessage(graph.nodes.map((n) => [1, node(n)])),
    protoMessage([[2, 'decoder']]),
    protoMessage(graph.constants.map((c) => [5, constant(c)])),
    protoMessage(external.map((t) => [5, t])),
    protoMessage(graph.inputs.map((v) => [11, valueInfo(v)])),
    protoMessage(graph.outputs.map((v) => [12, valueInfo(v)])),
  ]);
  const model = protoMessage([
    [1, IR_VERSION],
    [2, producer],
    [7, body],
    ...opsets.map(
      ([domain, version]) =>
        [
          8,
          protoMessage([
            [1, domain],
            [2, version],
          ]),
        ] as const,
    ),
  ]);
  if (model.length >= 2 ** 31)
    fail('argument/value', 'the graph is too long for a protocol buffer', { op: OP, expected: 'less than 2 GB', found: model.length });
  return { model, files };
}

/**
 * Writes one file of weights. Each tensor's `bytes()` is called once, in order, and may be freed afterwards.
 * @throws LmqError `argument/value` for data that is not as long as its shape says
 */
export async function writeOnnxData(sink: ByteSink, { tensors }: OnnxDataFile): Promise<void> {
  let at = 0;
  for (const { tensor, offset, bytes } of tensors) {
    const data = await tensor.bytes();
    if (data.byteLength !== bytes)
      fail('argument/value', 'the data is not as long as its shape says', {
        op: 'writeOnnxData',
        tensor: tensor.name,
        expected: `${bytes} bytes`,
        found: `${data.byteLength} bytes`,
      });
    if (offset > at) await sink.write(new Uint8Array(offset - at));
    if (bytes) await sink.write(data);
    at = offset + bytes;
  }
}

function place(tensors: readonly TensorToWrite[], dataName: string, limit: number): OnnxDataFile[] {
  const files: { name: string; bytes: number; tensors: Placed[] }[] = [];
  for (const tensor of tensors) {
    const bytes = tensorBytes(tensor.name, tensor.shape, tensor.dtype);
    const step = bytes >= LARGE ? PAGE : ALIGNMENT;
    let file = files[files.length - 1];
    let offset = file ? roundUp(file.bytes, step) : 0;
    if (!file || (offset + bytes > limit && file.bytes > 0)) {
      file = { name: files.length === 0 ? dataName : `${dataName}_${files.length}`, bytes: 0, tensors: [] };
      files.push(file);
      offset = 0;
    }
    file.tensors.push({ tensor, offset, bytes });
    file.bytes = offset + bytes;
  }
  return files;
}

function typeOf(name: string, type: string): (typeof ONNX_TYPES)[OnnxType] {
  if (Object.hasOwn(ONNX_TYPES, type)) return ONNX_TYPES[type as OnnxType];
  return fail('argument/value', 'unknown ONNX element type', {
    op: OP,
    tensor: name,
    expected: Object.keys(ONNX_TYPES).join(', '),
    found: type,
  });
}

function tensorBytes(name: string, shape: readonly number[], type: string): number {
  const count = shape.every((d) => Number.isInteger(d) && d >= 0 && d <= MAX_DIM) ? countOf(shape) : null;
  const bytes = count === null ? null : mulSafe(count, typeOf(name, type).bytes);
  return bytes ?? fail('argument/shape', 'the shape cannot be stored', { op: OP, tensor: name, found: `[${shape.join(', ')}]` });
}

function constant({ name, type, shape, data }: OnnxConstant): Uint8Array {
  const bytes = tensorBytes(name, shape, type);
  if (data.length !== bytes)
    fail('argument/value', 'the data is not as long as its shape says', { op: OP, tensor: name, expected: bytes, found: data.length });
  return protoMessage([...shape.map((d) => [1, d] as const), [2, ONNX_TYPES[type].id], [8, name], [9, data]]);
}

function externalTensor({ tensor, offset, bytes }: Placed, file: string): Uint8Array {
  const entry = (key: string, value: string) =>
    [
      13,
      protoMessage([
        [1, key],
        [2, value],
      ]),
    ] as const;
  return protoMessage([
    ...tensor.shape.map((d) => [1, d] as const),
    [2, typeOf(tensor.name, tensor.dtype).id],
    [8, tensor.name],
    entry('location', file),
    entry('offset', String(offset)),
    entry('length', String(bytes)),
    [14, EXTERNAL],
  ]);
}

function valueInfo({ name, type, shape }: OnnxValue): Uint8Array {
  const dims = shape.map((d) => [1, protoMessage([typeof d === 'number' ? [1, d] : [2, d]])] as const);
  const tensorType = protoMessage([
    [1, typeOf(name, type).id],
    [2, protoMessage(dims)],
  ]);
  return protoMessage([
    [1, name],
    [2, protoMessage([[1, tensorType]])],
  ]);
}

function node({ name, op, domain, inputs, outputs, attributes = new Map() }: OnnxNode): Uint8Array {
  return protoMessage([
    ...inputs.map((i) => [1, i] as const),
    ...outputs.map((o) => [2, o] as const),
    [3, name],
    [4, op],
    ...[...attributes].map(([key, value]) => [5, attribute(key, value)] as const),
    ...(domain === undefined ? [] : ([[7, domain]] as const)),
  ]);
}

/** `AttributeProto.type`: FLOAT 1, INT 2, STRING 3, INTS 7. */
function attribute(name: string, value: OnnxAttribute): Uint8Array {
  if ('float' in value) return concat([protoMessage([[1, name]]), protoFloat(2, value.float), protoMessage([[20, 1]])]);
  if ('int' in value)
    return protoMessage([
      [1, name],
      [3, value.int],
      [20, 2],
    ]);
  if ('string' in value)
    return protoMessage([
      [1, name],
      [4, value.string],
      [20, 3],
    ]);
  return protoMessage([[1, name], ...value.ints.map((n) => [8, n] as const), [20, 7]]);
}

/** Every name is made once, and before it is used. */
function checkNames({ nodes, inputs, outputs, constants, tensors }: OnnxGraph): void {
  const made = new Set<string>();
  const make = (name: string) => {
    if (name === '' || made.has(name)) fail('argument/value', 'two values have one name, or none', { op: OP, tensor: name });
    made.add(name);
  };
  const use = (name: string, by: string) => {
    if (!made.has(name)) fail('argument/value', 'nothing makes this value', { op: OP, tensor: name, found: `used by ${by}` });
  };
  for (const { name } of [...inputs, ...constants, ...tensors]) make(name);
  for (const n of nodes) {
    for (const name of n.inputs) if (name !== '') use(name, n.name);
    n.outputs.forEach(make);
  }
  for (const { name } of outputs) use(name, 'the outputs');
}
