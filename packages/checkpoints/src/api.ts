import type { CompressedTensor } from '@lmq/tensor';

/** Random access to bytes: a file, a Blob, an URL, memory. */
export interface ByteSource {
  /** Names the source in errors, e.g. a file's path. */
  readonly name: string;
  readonly size: number;
  /** Exactly `length` bytes from `offset`; throws `file/truncated` when the source ends before. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** One tensor of a checkpoint, before its data is read. */
export interface TensorInfo {
  name: string;
  /** As stored, slowest axis first; rank 0 to 4. */
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
  readonly format: 'safetensors' | 'gguf' | 'lmq';
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** String metadata of the container (safetensors `__metadata__`), or GGUF key-values. */
  readonly metadata: ReadonlyMap<string, unknown>;
  /**
   * Reads one tensor. The result is 2-D: leading axes are merged, a vector of n becomes `[1, n]`.
   * @throws LmqError `model/missing` when there is none of that name, `file/*` when the file is damaged
   */
  read(name: string): Promise<CompressedTensor>;
  close(): Promise<void>;
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
