/**
 * Weights to GGUF blocks in SIMD WebAssembly: the bytes of `encodeBlocks` of `@lmq/formats`, several times as fast. Needs no backend: it has a
 * module and a small memory of its own, through which weights pass in strips.
 * @module
 */
import { BLOCK_TYPES } from '@lmq/formats/block-types/table';
import { type EncodeBlocksOpts, encodeBlocks } from '@lmq/formats/blocks';
import { type Blocks, type BlockType, LmqError, type Tensor } from '@lmq/tensor';
import { base64Bytes } from './_wasm/module.js';

export interface BlockEncoder {
  /**
   * `encodeBlocks` of `@lmq/formats`, with the same bytes, checks and errors. Types other than `types`, and weights with importances where
   * the type takes them, are encoded in JavaScript.
   */
  encodeBlocks(type: BlockType, w: Tensor, opts?: Pick<EncodeBlocksOpts, 'importance'>): Blocks;
  /** The types that WebAssembly encodes. */
  readonly types: readonly BlockType[];
}

/** Exports of assembly/encodeBlocks.ts. */
interface Exports {
  heapBase(): number;
  [kernel: `encode${string}`]: ((src: number, out: number, blocks: number) => void) | undefined;
}

const PAGE = 65536;
/** Weights of a strip: a multiple of every block size; with its blocks, which are never larger, it stays in a processor's second cache. */
const STRIP = 65536;

/**
 * An encoder of blocks. It keeps 576 KiB of memory.
 * @throws LmqError `backend/unsupported` where WebAssembly or its SIMD instructions are missing
 */
export async function createBlockEncoder(): Promise<BlockEncoder> {
  const { kernels, memory } = await instantiate(1 + (2 * 4 * STRIP) / PAGE); // a page for the module's own data
  const weightsAt = kernels.heapBase();
  const blocksAt = weightsAt + 4 * STRIP;
  const weights = new Float32Array(memory.buffer, weightsAt, STRIP);
  const bytes = new Uint8Array(memory.buffer, blocksAt, 4 * STRIP);

  const byType = new Map<BlockType, EncodeBlocksOpts['kernel']>();
  for (const type of Object.keys(BLOCK_TYPES) as BlockType[]) {
    const kernel = kernels[`encode${type}`];
    if (!kernel) continue;
    const { blockSize, blockBytes } = BLOCK_TYPES[type];
    byType.set(type, (src, out) => {
      for (let from = 0, to = 0; from < src.length; from += STRIP) {
        const strip = src.subarray(from, from + STRIP);
        const blocks = strip.length / blockSize;
        weights.set(strip);
        kernel(weightsAt, blocksAt, blocks);
        out.set(bytes.subarray(0, blocks * blockBytes), to);
        to += blocks * blockBytes;
      }
    });
  }
  return {
    encodeBlocks: (type, w, { importance } = {}) => encodeBlocks(type, w, { importance, kernel: byType.get(type) }),
    types: [...byType.keys()],
  };
}

async function instantiate(pages: number): Promise<{ kernels: Exports; memory: WebAssembly.Memory }> {
  const { WASM_ENCODERS } = await import('./generated/encoders.js');
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const { instance } = await WebAssembly.instantiate(base64Bytes(WASM_ENCODERS), { env: { memory } });
    return { kernels: instance.exports as unknown as Exports, memory };
  } catch (cause) {
    throw new LmqError('backend/unsupported', 'the WebAssembly encoders cannot run here', {
      op: 'createBlockEncoder',
      expected: 'WebAssembly with 128-bit SIMD',
      hint: 'Use encodeBlocks of @lmq/formats. A page with a content-security policy must allow wasm-unsafe-eval.',
      cause,
    });
  }
}
