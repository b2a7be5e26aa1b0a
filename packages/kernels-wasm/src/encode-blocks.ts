/**
 * Weights to GGUF blocks in SIMD WebAssembly: the bytes of formats' `encodeBlocks`, several times as fast. A module and a small memory of its
 * own, apart from the backend's: weights pass through in strips.
 * @module
 */
import { BLOCK_TYPES } from '@lmq/formats/block-types/table';
import { type EncodeBlocksOpts, encodeBlocks } from '@lmq/formats/blocks';
import { type Blocks, type BlockType, LmqError, type Tensor } from '@lmq/tensor';
import { base64Bytes } from './_wasm/module.js';

export interface BlockEncoder {
  /**
   * formats' `encodeBlocks`: the same bytes, checks and errors. Types other than `types`, and weights with importances, are encoded in
   * JavaScript.
   */
  encodeBlocks(type: BlockType, w: Tensor, opts?: Pick<EncodeBlocksOpts, 'importance'>): Blocks;
  /** The types that WebAssembly encodes. */
  readonly types: readonly BlockType[];
}

type Kernel = (src: number, out: number, blocks: number) => void;

/** Pages of 64 KiB: the module's own, then a strip of weights and its blocks, which are never larger than the weights. */
const PAGES = { own: 1, weights: 4, blocks: 4 };
const PAGE = 65536;

/**
 * An encoder of blocks. It keeps half a MiB of memory.
 * @throws LmqError `backend/unsupported` where WebAssembly or its SIMD instructions are missing
 */
export async function createBlockEncoder(): Promise<BlockEncoder> {
  const pages = PAGES.own + PAGES.weights + PAGES.blocks;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const kernels = await instantiate(memory);
  const weightsAt = PAGES.own * PAGE;
  const blocksAt = weightsAt + PAGES.weights * PAGE;
  const weights = new Float32Array(memory.buffer, weightsAt, (PAGES.weights * PAGE) / 4);
  const bytes = new Uint8Array(memory.buffer, blocksAt);

  const through = (type: BlockType, kernel: Kernel) => (src: Float32Array, out: Uint8Array) => {
    const { blockSize, blockBytes } = BLOCK_TYPES[type];
    const blocks = src.length / blockSize;
    const strip = weights.length / blockSize;
    for (let from = 0; from < blocks; from += strip) {
      const count = Math.min(strip, blocks - from);
      weights.set(src.subarray(from * blockSize, (from + count) * blockSize));
      kernel(weightsAt, blocksAt, count);
      out.set(bytes.subarray(0, count * blockBytes), from * blockBytes);
    }
  };
  const byType = new Map<BlockType, ReturnType<typeof through>>();
  for (const type of Object.keys(BLOCK_TYPES) as BlockType[]) {
    const kernel = kernels[`encode${type}`];
    if (kernel) byType.set(type, through(type, kernel));
  }
  return {
    encodeBlocks: (type, w, { importance } = {}) => encodeBlocks(type, w, { importance, kernel: byType.get(type) }),
    types: [...byType.keys()],
  };
}

async function instantiate(memory: WebAssembly.Memory): Promise<Partial<Record<string, Kernel>>> {
  const { WASM_ENCODERS } = await import('./generated/encoders.js');
  try {
    const { instance } = await WebAssembly.instantiate(base64Bytes(WASM_ENCODERS), { env: { memory } });
    return instance.exports as Record<string, Kernel>;
  } catch (cause) {
    throw new LmqError('backend/unsupported', 'the WebAssembly encoders cannot run here', {
      op: 'createBlockEncoder',
      expected: 'WebAssembly with 128-bit SIMD',
      hint: 'Use encodeBlocks of @lmq/formats. A page with a content-security policy must allow wasm-unsafe-eval.',
      cause,
    });
  }
}
