/**
 * An ONNX model as plain data: what the writer takes. Names follow onnx.proto.
 * @module
 */
import type { TensorToWrite } from './api.js';

/** Element types by their name in `TensorProto.DataType`: number there, and bytes. */
export const ONNX_TYPES = {
  FLOAT: { id: 1, bytes: 4 },
  UINT8: { id: 2, bytes: 1 },
  INT8: { id: 3, bytes: 1 },
  INT32: { id: 6, bytes: 4 },
  INT64: { id: 7, bytes: 8 },
  BOOL: { id: 9, bytes: 1 },
  FLOAT16: { id: 10, bytes: 2 },
  DOUBLE: { id: 11, bytes: 8 },
  BFLOAT16: { id: 16, bytes: 2 },
} as const;

export type OnnxType = keyof typeof ONNX_TYPES;

/** An input or output of the graph. A dimension is a number, or the name of one that differs from run to run. */
export interface OnnxValue {
  name: string;
  type: OnnxType;
  shape: (number | string)[];
}

/** `number[]` is a list of integers. Whether a single number is an integer or a float must be said. */
export type OnnxAttribute = { int: number } | { float: number } | { string: string } | { ints: readonly number[] };

export interface OnnxNode {
  name: string;
  op: string;
  /** Default: the standard operators. */
  domain?: string;
  /** Names of values; an optional input that is left out is the empty name. */
  inputs: readonly string[];
  outputs: readonly string[];
  attributes?: ReadonlyMap<string, OnnxAttribute>;
}

/** A constant that lies in the graph itself. Runtimes need shapes and the like there to infer others from them. */
export interface OnnxConstant {
  name: string;
  type: OnnxType;
  shape: readonly number[];
  /** Little-endian, as in memory. */
  data: Uint8Array;
}

export interface OnnxGraph {
  nodes: readonly OnnxNode[];
  inputs: readonly OnnxValue[];
  outputs: readonly OnnxValue[];
  constants: readonly OnnxConstant[];
  /** Constants that lie in files beside the graph; `dtype` is an {@link OnnxType}. */
  tensors: readonly TensorToWrite[];
}
