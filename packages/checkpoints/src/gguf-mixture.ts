/**
 * Which type each tensor of a GGUF file gets: llama.cpp's rules (src/llama-quant.cpp: `tensor_allows_quantization`,
 * `llama_tensor_get_type_impl`, `tensor_type_fallback`) for the architectures that lmq writes. Values and the outputs of both halves of a
 * block cost quality first, so mixtures give some layers of them more bits.
 *
 * Two things differ. Where columns are not whole blocks of a type that llama.cpp has no other type for (it stops there), the matrix is F16.
 * And a mixture of MXFP4 for dense models is there (`mxfp4`), by the common rules.
 * @module
 */
import { GGUF_FILE_TYPES, type GgufFileTypeName, type GgufMatrixType, isBlockFileType } from './gguf-file-types.js';
import { GGUF_TYPES } from './gguf-types.js';

/** What the rules ask about a model. */
export interface MixtureFacts {
  layers: number;
  heads: number;
  kvHeads: number;
  /** Per layer; 0 for a dense model. */
  experts: number;
  /** The head is the embedding matrix. */
  tied: boolean;
  /** Whether importances are given: Q4_0 and Q5_0 then protect the first layers. */
  importance: boolean;
}

/** True for tensors that GGUF readers want as F32 whatever the rest is: vectors (norms, biases) and the router of experts. */
export function ggufNeedsF32(ggufName: string, shape: readonly number[]): boolean {
  return shape.length < 2 || ggufName.endsWith('_norm.weight') || ggufName.endsWith('.ffn_gate_inp.weight');
}

/**
 * The type of one tensor.
 * @param name of the tensor in the file, e.g. `blk.3.attn_v.weight`
 * @param shape slowest axis first; three axes for stacked experts
 * @returns the type, and in `wanted` the one that the rules ask for where rows are not whole blocks of it
 */
export function ggufTensorType(
  fileType: GgufFileTypeName,
  name: string,
  shape: readonly number[],
  facts: MixtureFacts,
): { type: GgufMatrixType; wanted?: GgufMatrixType } {
  if (ggufNeedsF32(name, shape)) return { type: 'F32' };
  const { type } = GGUF_FILE_TYPES.get(fileType)!;
  if (!isBlockFileType(fileType)) return { type };
  const columns = shape[shape.length - 1]!;
  return fitColumns(mixed(fileType, type, name, shape, facts), columns);
}

const fits = (type: GgufMatrixType, columns: number) => columns % GGUF_TYPES.get(type)!.blockSize === 0;

/** Types of 256 columns and what stands for them in narrower matrices. */
const NARROWER = new Map<GgufMatrixType, GgufMatrixType>([
  ['Q2_K', 'Q4_0'],
  ['Q3_K', 'Q4_0'],
  ['TQ1_0', 'Q4_0'],
  ['TQ2_0', 'Q4_0'],
  ['Q4_K', 'Q5_0'],
  ['Q5_K', 'Q5_1'],
  ['Q6_K', 'Q8_0'],
  ['IQ4_XS', 'IQ4_NL'],
]);

/** The type, or what stands for it where `columns` are not whole blocks of it. */
export function fitColumns(wanted: GgufMatrixType, columns: number): { type: GgufMatrixType; wanted?: GgufMatrixType } {
  if (fits(wanted, columns)) return { type: wanted };
  const type = NARROWER.get(wanted);
  return { type: type && fits(type, columns) ? type : 'F16', wanted };
}

/** llama.cpp counts layers by the tensors of a kind that it has met; every layer of these architectures has one of each. */
const layerOf = (name: string) => Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? 0);

/** The first and last eighth of the layers, and every third between them. */
function moreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}

function mixed(
  fileType: GgufFileTypeName,
  base: GgufMatrixType,
  name: string,
  shape: readonly number[],
  facts: MixtureFacts,
): GgufMatrixType {
  const kind = /^(?:blk\.\d+\.)?(\w+?)(?:_exps)?\.weight$/.exec(name)?.[1];
  const layer = layerOf(name);
  const moe = fileType === 'mxfp4_moe';
  if (kind === 'output' || (kind === 'token_embd' && facts.tied)) {
    if (moe || base === 'Q8_0' || !fits(base, shape[shape.length - 1]!)) return 'Q8_0';
    return 'Q6_K';
  }
  if (moe) return shape.length > 2 ? 'MXFP4' : 'Q8_0';
  switch (kind) {
    case 'token_embd':
      return base === 'TQ1_0' || base === 'TQ2_0' ? 'Q4_K' : base;
    case 'attn_v':
    case 'attn_qkv':
      return values(fileType, base, layer, facts);
    case 'attn_k':
      return facts.experts === 8 ? 'Q8_0' : base; // costs little: keys are small beside eight experts
    case 'ffn_down':
      return down(fileType, base, layer, facts);
    case 'attn_output':
      return attentionOutput(fileType, base, facts);
    default:
      return base;
  }
}

function values(fileType: GgufFileTypeName, base: GgufMatrixType, layer: number, facts: MixtureFacts): GgufMatrixType {
  if (facts.experts === 8) return 'Q8_0';
  const type = valuesByLayer(fileType, base, layer, facts);
  // the models of 70 billion parameters: eight query heads read each of these matrices, which are small
  const seventy = facts.layers === 80 && facts.heads !== facts.kvHeads;
  return seventy && (type === 'Q3_K' || type === 'Q4_K') ? 'Q5_K' : type;
}

function valuesByLayer(
  fileType: GgufFileTypeName,
  base: GgufMatrixType,
  layer: number,
  { layers, heads, kvHeads }: MixtureFacts,
): GgufMatrixType {
  const shared = heads / kvHeads >= 4;
  switch (fileType) {
    case 'q2_k':
      return shared ? 'Q4_K' : 'Q3_K';
    case 'q2_k_s':
      return shared ? 'Q4_K' : base;
    case 'q3_k_m':
      return layer < 2 ? 'Q5_K' : 'Q4_K';
    case 'q3_k_l':
      return 'Q5_K';
    case 'iq4_nl':
    case 'iq4_xs':
      return shared ? 'Q5_K' : base;
    case 'q4_k_m':
    case 'q5_k_m':
      return moreBits(layer, layers) ? 'Q6_K' : base;
    case 'q4_k_s':
      return layer < 4 ? 'Q5_K' : base;
    default:
      return base;
  }
}

function down(fileType: GgufFileTypeName, base: GgufMatrixType, layer: number, { layers, importance }: MixtureFacts): GgufMatrixType {
  const first = layer < Math.floor(layers / 8);
  switch (fileType) {
    case 'q2_k':
      return 'Q3_K';
    case 'q2_k_s':
      return first ? 'Q4_K' : base;
    case 'q3_k_m':
      return layer < Math.floor(layers / 16) ? 'Q5_K' : 'Q4_K';
    case 'q3_k_l':
      return 'Q5_K';
    case 'q4_k_m':
    case 'q5_k_m':
      return moreBits(layer, layers) ? 'Q6_K' : base;
    case 'iq4_nl':
    case 'iq4_xs':
      return first && !importance ? 'Q5_K' : base;
    case 'q4_k_s':
      return first ? 'Q5_K' : base;
    case 'q4_0':
      return first && importance ? 'Q4_1' : base;
    case 'q5_0':
      return first && importance ? 'Q5_1' : base;
    default:
      return base;
  }
}

function attentionOutput(fileType: GgufFileTypeName, base: GgufMatrixType, { experts }: MixtureFacts): GgufMatrixType {
  if (experts === 8) return ['q2_k', 'q3_k_s', 'q3_k_m', 'q4_k_s', 'q4_k_m', 'iq4_nl', 'iq4_xs'].includes(fileType) ? 'Q5_K' : base;
  return fileType === 'q2_k' ? 'Q3_K' : fileType === 'q3_k_m' ? 'Q4_K' : fileType === 'q3_k_l' ? 'Q5_K' : base;
}
