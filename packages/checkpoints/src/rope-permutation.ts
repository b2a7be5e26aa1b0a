/**
 * Row order of query and key projections between Hugging Face and GGUF's llama family. Hugging Face rotates element i with i + d/2 of a
 * head, GGUF's llama rotates 2i with 2i + 1, so the rows of each head are interleaved: W[heads * d] → (heads, 2, d/2) → axes swapped
 * (llama.cpp convert_hf_to_gguf.py, LlamaModel.permute).
 * @module
 */
import { LmqError } from '@lmq/tensor';

function headDim(rows: number, heads: number, op: string): number {
  const dim = rows / heads;
  if (Number.isInteger(heads) && heads > 0 && Number.isInteger(dim) && dim % 2 === 0) return dim;
  throw new LmqError('argument/shape', 'the rows are not heads of even size', { op, expected: `a multiple of 2 x ${heads}`, found: rows });
}

/**
 * Gather list from Hugging Face's order to GGUF's: row i of the GGUF tensor is row `permutedRows(rows, heads)[i]` of the original. Use with
 * `selectRows`, and on biases likewise.
 * @param rows heads * headDim
 * @param heads attention heads for a query projection, key-value heads for a key projection
 */
export function permutedRows(rows: number, heads: number): Uint32Array {
  const dim = headDim(rows, heads, 'permutedRows');
  const index = new Uint32Array(rows);
  for (let i = 0; i < rows; i++) {
    const inHead = i % dim;
    index[i] = i - inHead + (inHead % 2) * (dim / 2) + (inHead >> 1);
  }
  return index;
}

/** The way back: row i of the original is row `unpermutedRows(rows, heads)[i]` of the GGUF tensor. */
export function unpermutedRows(rows: number, heads: number): Uint32Array {
  const dim = headDim(rows, heads, 'unpermutedRows');
  const index = new Uint32Array(rows);
  for (let i = 0; i < rows; i++) {
    const inHead = i % dim;
    index[i] = i - inHead + (inHead % (dim / 2)) * 2 + (inHead >= dim / 2 ? 1 : 0);
  }
  return index;
}
