/**
 * Collects the nodes and constants of an ONNX graph. Nodes are added in the order of work; adding one returns the name of its output.
 * @module
 */
import type { OnnxAttribute, OnnxConstant, OnnxGraph, OnnxNode, OnnxValue, TensorToWrite } from '@lmq/checkpoints';

/** Operators of ONNX Runtime's own. */
export const MICROSOFT = 'com.microsoft';

/** Standard operators of ONNX 1.12, which every runtime of the last years has. */
export const OPSETS = [
  ['', 17],
  [MICROSOFT, 1],
] as const;

export interface OpOpts {
  domain?: string;
  attributes?: Record<string, OnnxAttribute>;
  /** Names of the outputs. Default: one, called like the node. */
  outputs?: readonly string[];
}

export interface Builder {
  /** Adds a node; `name` is made unique. Returns the name of its first output. An input that is left out is the empty name. */
  op(name: string, op: string, inputs: readonly string[], opts?: OpOpts): string;
  /** A constant list of int64, or, with `scalar`, its one number. Equal ones are one constant. */
  ints(values: readonly number[], scalar?: boolean): string;
  /** A constant float32 tensor in the graph itself; without a shape, a scalar. Scalars that are equal are one constant. */
  floats(values: number | Float32Array, shape?: readonly number[], name?: string): string;
  /** A weight, which lies beside the graph. Returns its name. */
  weight(name: string, shape: number[], dtype: 'FLOAT' | 'UINT8', bytes: TensorToWrite['bytes']): string;
  input(value: OnnxValue): string;
  output(value: OnnxValue): void;
  /** What has been added so far. */
  graph(): OnnxGraph;
}

export function createBuilder(): Builder {
  const nodes: OnnxNode[] = [];
  const constants = new Map<string, OnnxConstant>();
  const tensors: TensorToWrite[] = [];
  const inputs: OnnxValue[] = [];
  const outputs: OnnxValue[] = [];
  const taken = new Map<string, number>();
  const unique = (name: string): string => {
    const n = taken.get(name) ?? 0;
    taken.set(name, n + 1);
    return n === 0 ? name : `${name}_${n}`;
  };
  const constant = (name: string, type: 'INT64' | 'FLOAT', shape: readonly number[], data: BigInt64Array | Float32Array): string => {
    if (!constants.has(name))
      constants.set(name, { name, type, shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) });
    return name;
  };
  return {
    op(name, op, from, { domain, attributes = {}, outputs: to } = {}) {
      const called = unique(`${name}/${op}`);
      const made = to ?? [called];
      nodes.push({
        name: called,
        op,
        inputs: from,
        outputs: made,
        attributes: new Map(Object.entries(attributes)),
        ...(domain !== undefined && { domain }),
      });
      return made[0]!;
    },
    ints(values, scalar = false) {
      const name = scalar ? `constant/int/${values[0]}` : `constant/ints/${values.join(',')}`;
      return constant(name, 'INT64', scalar ? [] : [values.length], BigInt64Array.from(values, BigInt));
    },
    floats(values, shape = [], name = `constant/float/${values}`) {
      return constant(name, 'FLOAT', shape, typeof values === 'number' ? Float32Array.of(values) : values);
    },
    weight(name, shape, dtype, bytes) {
      tensors.push({ name, shape, dtype, bytes });
      return name;
    },
    input(value) {
      inputs.push(value);
      return value.name;
    },
    output(value) {
      outputs.push(value);
    },
    graph: () => ({ nodes, inputs, outputs, constants: [...constants.values()], tensors }),
  };
}
