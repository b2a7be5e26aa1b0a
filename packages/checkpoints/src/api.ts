import type { CompressedTensor, InputQuant } from '@lmq/tensor';

/** Random access to bytes: a file, a Blob, an URL, memory. */
export interface ByteSource {
  /** Names the source in errors, e.g. a file's path. */
  readonly name: string;
  readonly size: number;
  /** Exactly `length` bytes from `offset`; throws `file/truncated` when the source ends before. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Where a writer puts its bytes, in order: a file, memory, a socket. */
export interface ByteSink {
  /** Resolves once the bytes may be reused. */
  write(bytes: Uint8Array): Promise<void>;
}

/** One tensor of a checkpoint, before its data is read. */
export interface TensorInfo {
  name: string;
  /** As stored, slowest axis first. */
  shape: number[];
  /** Stored format: `bf16`, `fp16`, `fp32`, `int32` …, a GGUF type such as `Q4_0`, or for our own folders the layout, e.g. `affine 4-bit g128`. */
  format: string;
  /** Stored bytes, everything that the tensor needs counted. */
  bytes: number;
  /** File that holds it. */
  file: string;
}

/** A model file or folder of any format: named tensors, read one at a time. Hugging Face names, or the names the file has. */
export interface Checkpoint {
  readonly format: 'safetensors' | 'gguf' | 'lmq' | 'gptq' | 'awq' | 'compressed-tensors' | 'bitsandbytes' | 'hqq' | 'auto-round' | 'onnx';
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** String metadata of the container (safetensors `__metadata__`), or GGUF key-values. */
  readonly metadata: ReadonlyMap<string, unknown>;
  /** Set where somebody decided what becomes of NaN and infinity (`guardNonFinite`): then models do not refuse them. */
  readonly nonFinite?: 'warn' | 'zero';
  /** How the inputs of linears are quantized at run time, by the name of the weight; those that are not here are not. */
  readonly inputs?: ReadonlyMap<string, InputQuant>;
  /** What the model was made for and its weights do not show, e.g. that inputs are rounded to FP8. */
  readonly warnings?: readonly string[];
  /**
   * Reads one tensor. The result is 2-D: leading axes are merged, a vector of n becomes `[1, n]`.
   * @throws LmqError `model/missing` when there is none of that name, `file/*` when the file is damaged, `model/unsupported` when the
   * stored format is not one lmq computes with
   */
  read(name: string): Promise<CompressedTensor>;
  close(): Promise<void>;
}

/** A safetensors file or a folder of shards: also gives tensors of any dtype as raw bytes. */
export interface SafetensorsFile extends Checkpoint {
  readonly format: 'safetensors';
  /** Stored dtype as the file spells it, e.g. `BF16`, `I32`. @throws LmqError `model/missing` */
  dtype(name: string): string;
  /** Stored bytes `[from, to)` of a tensor of any dtype; all of them by default. @throws LmqError `model/missing`, `argument/value` */
  readBytes(name: string, from?: number, to?: number): Promise<Uint8Array>;
}

/** Scalar types of GGUF values. */
export type GgufScalar = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'bool' | 'string' | 'u64' | 'i64' | 'f64';

/**
 * A typed GGUF value. Numbers are `number`, or `bigint` beyond 2^53; `u32[]` and the like take any array of numbers (typed or plain),
 * `string[]` strings, `bool[]` booleans; `array[]` is an array of arrays, each with a type of its own.
 */
export interface GgufValue {
  type: GgufScalar | `${GgufScalar}[]` | 'array[]';
  value: unknown;
}

/** One key-value pair of a GGUF file. */
export interface GgufEntry extends GgufValue {
  key: string;
}

/** A GGUF file: also gives its key-values with their types, and tensors of any type as raw bytes. */
export interface GgufFile extends Checkpoint {
  readonly format: 'gguf';
  /** 1, 2 or 3. */
  readonly version: number;
  readonly alignment: number;
  /** Key-values in file order, typed. */
  readonly entries: readonly GgufEntry[];
  /** Rows `[from, to)` of what `read` gives, e.g. one expert of a stack, without reading the others. @throws LmqError as `read`, `argument/value` */
  readRows(name: string, from: number, to: number): Promise<CompressedTensor>;
  /** Stored bytes `[from, to)` of a tensor of any type; all of them by default. @throws LmqError `model/missing`, `argument/value` */
  readBytes(name: string, from?: number, to?: number): Promise<Uint8Array>;
}

/** A tensor to write: bytes are asked for when their turn comes, so that only one tensor is in memory. */
export interface TensorToWrite {
  name: string;
  /** Slowest axis first. */
  shape: number[];
  /** safetensors dtype (`BF16`, `U8` …) or GGUF type (`F16`, `Q4_0` …), as the writer wants. */
  dtype: string;
  bytes: () => Uint8Array | Promise<Uint8Array>;
}

/** A layout's small facts, as JSON: the tensor without its data. Data lies in physical tensors named by path. */
export type LmqLayout = { kind: string; shape: [rows: number, cols: number] } & Record<string, unknown>;

/** One tensor in `lmq.json`. */
export interface LmqEntry {
  /** Shape in the original checkpoint, slowest axis first, e.g. `[4096]` for a norm. */
  shape: number[];
  layout: LmqLayout;
  /** How the input of the linear that has this weight is quantized at run time; absent: it is not. */
  input?: InputQuant;
}
