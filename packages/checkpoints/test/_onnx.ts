// Golden ONNX models, and a small one of our own.
import { readFileSync } from 'node:fs';
import type { ByteSource, TensorToWrite } from '../src/api.js';
import type { OnnxGraph } from '../src/onnx-model.js';
import { type OnnxOpts, planOnnx, writeOnnxData } from '../src/onnx-write.js';
import { memorySink, memorySource } from '../src/sources.js';

export const bytesOf = (base64: string) => Uint8Array.from(Buffer.from(base64, 'base64'));

interface Numbers {
  shape: number[];
  data: string;
}

/** One model of golden/onnx.json, and what the runtime makes of its weights: see golden/make-onnx.py. */
export interface GoldenModel {
  model: string;
  files: Record<string, string>;
  /** By name of the codes, [N, K]. */
  packed: Record<string, Numbers>;
  dense: Record<string, Numbers>;
}

export const golden: Record<string, GoldenModel> = JSON.parse(readFileSync(new URL('./golden/onnx.json', import.meta.url), 'utf8')).cases;
export const floatsOf = ({ data }: Numbers) => new Float32Array(bytesOf(data).buffer);

/** Opens the files of a map, as `openData` does. */
export function dataIn(files: ReadonlyMap<string, Uint8Array>) {
  return async (name: string): Promise<ByteSource> => {
    const bytes = files.get(name);
    if (!bytes) throw new Error(`${name} was asked for`);
    return memorySource(bytes, name);
  };
}

const tensor = (name: string, shape: number[], dtype: string, data: ArrayBufferView): TensorToWrite => ({
  name,
  shape,
  dtype,
  bytes: () => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});

/** y = (x W^T) / 2 with W [3, 40] of 4 bits in blocks of 16, and a table that nobody uses. */
export const small: OnnxGraph = {
  inputs: [{ name: 'x', type: 'FLOAT', shape: ['tokens', 40] }],
  outputs: [{ name: 'y', type: 'FLOAT', shape: ['tokens', 3] }],
  nodes: [
    {
      name: 'matmul',
      op: 'MatMulNBits',
      domain: 'com.microsoft',
      inputs: ['x', 'w_Q4', 'w_scales', 'w_zero_points'],
      outputs: ['h'],
      attributes: new Map([
        ['K', { int: 40 }],
        ['N', { int: 3 }],
        ['bits', { int: 4 }],
        ['block_size', { int: 16 }],
      ]),
    },
    { name: 'scale', op: 'Mul', inputs: ['h', 'half'], outputs: ['z'] },
    {
      name: 'norm',
      op: 'LpNormalization',
      inputs: ['z'],
      outputs: ['y'],
      attributes: new Map<string, { int: number } | { string: string } | { ints: number[] } | { float: number }>([
        ['axis', { int: -1 }],
        ['note', { string: 'text' }],
        ['list', { ints: [1, -2] }],
        ['share', { float: 0.5 }],
      ]),
    },
  ],
  constants: [{ name: 'half', type: 'FLOAT', shape: [], data: new Uint8Array(Float32Array.of(0.5).buffer) }],
  tensors: [
    tensor(
      'w_Q4',
      [3, 3, 8],
      'UINT8',
      Uint8Array.from({ length: 72 }, (_, i) => (i * 37) & 255),
    ),
    tensor(
      'w_scales',
      [3, 3],
      'FLOAT',
      Float32Array.from({ length: 9 }, (_, i) => (i - 4) / 8),
    ),
    tensor('w_zero_points', [3, 2], 'UINT8', Uint8Array.of(0x87, 9, 0x65, 4, 0x21, 0)),
    tensor(
      'table',
      [2, 5],
      'FLOAT16',
      Uint16Array.from({ length: 10 }, (_, i) => 0x3c00 + i),
    ),
  ],
};

/** A graph as the files that hold it, by name. */
export async function writtenOnnx(graph: OnnxGraph, opts: Partial<OnnxOpts> = {}): Promise<Map<string, Uint8Array>> {
  const plan = planOnnx(graph, { opsets: [['', 17]], dataName: 'model.onnx_data', producer: 'test', ...opts });
  const files = new Map([['model.onnx', plan.model]]);
  for (const file of plan.files) {
    const sink = memorySink();
    await writeOnnxData(sink, file);
    files.set(file.name, sink.bytes());
  }
  return files;
}
