import { describe, expect, it } from 'vitest';
import { GGUF_FILE_TYPES, type GgufFileTypeName } from '../src/gguf-file-types.js';
import { fitColumns, ggufTensorType, type MixtureFacts } from '../src/gguf-mixture.js';
import { GGUF_TYPES } from '../src/gguf-types.js';

interface Sizes extends MixtureFacts {
  hidden: number;
  intermediate: number;
  vocab: number;
}
const LLAMA2_7B: Sizes = {
  layers: 32,
  heads: 32,
  kvHeads: 32,
  experts: 0,
  tied: false,
  importance: false,
  hidden: 4096,
  intermediate: 11008,
  vocab: 32000,
};
const LLAMA3_8B: Sizes = { ...LLAMA2_7B, kvHeads: 8, intermediate: 14336, vocab: 128256 };
const LLAMA2_70B: Sizes = { ...LLAMA2_7B, layers: 80, heads: 64, kvHeads: 8, hidden: 8192, intermediate: 28672 };
const MIXTRAL: Sizes = { ...LLAMA2_7B, kvHeads: 8, intermediate: 14336, experts: 8 };

/** Shapes of all tensors, slowest axis first. */
function tensorsOf({ layers, heads, kvHeads, experts, hidden, intermediate, vocab, tied }: Sizes): [name: string, shape: number[]][] {
  const kv = (hidden / heads) * kvHeads;
  const tensors: [string, number[]][] = [
    ['token_embd.weight', [vocab, hidden]],
    ['output_norm.weight', [hidden]],
  ];
  if (!tied) tensors.push(['output.weight', [vocab, hidden]]);
  for (let l = 0; l < layers; l++) {
    const [stack, suffix] = experts ? [[experts], '_exps'] : [[], ''];
    tensors.push(
      [`blk.${l}.attn_norm.weight`, [hidden]],
      [`blk.${l}.ffn_norm.weight`, [hidden]],
      [`blk.${l}.attn_q.weight`, [hidden, hidden]],
      [`blk.${l}.attn_k.weight`, [kv, hidden]],
      [`blk.${l}.attn_v.weight`, [kv, hidden]],
      [`blk.${l}.attn_output.weight`, [hidden, hidden]],
      [`blk.${l}.ffn_gate${suffix}.weight`, [...stack, intermediate, hidden]],
      [`blk.${l}.ffn_up${suffix}.weight`, [...stack, intermediate, hidden]],
      [`blk.${l}.ffn_down${suffix}.weight`, [...stack, hidden, intermediate]],
    );
    if (experts) tensors.push([`blk.${l}.ffn_gate_inp.weight`, [experts, hidden]]);
  }
  return tensors;
}

function sizeOf(fileType: GgufFileTypeName, sizes: Sizes): { bytes: number; weights: number } {
  let bytes = 0;
  let weights = 0;
  for (const [name, shape] of tensorsOf(sizes)) {
    const { blockSize, blockBytes } = GGUF_TYPES.get(ggufTensorType(fileType, name, shape, sizes).type)!;
    const n = shape.reduce((a, b) => a * b, 1);
    bytes += (n / blockSize) * blockBytes;
    weights += n;
  }
  return { bytes, weights };
}

describe('mixtures have the sizes that llama.cpp gives', () => {
  // Help of llama-quantize: GiB of Llama 3 8B, the header with its 128 256 tokens (7.8 MB) included.
  it.each<[GgufFileTypeName, number]>([
    ['q4_0', 4.34],
    ['q4_1', 4.78],
    ['q5_0', 5.21],
    ['q5_1', 5.65],
    ['q2_k', 2.96],
    ['q3_k_m', 3.74],
    ['q4_k_m', 4.58],
    ['q5_k_m', 5.33],
  ])('%s: %d GiB', (name, gib) => {
    expect(Math.abs((sizeOf(name, LLAMA3_8B).bytes + 7.8e6) / 2 ** 30 - gib)).toBeLessThan(0.01);
  });

  // README: bits per weight of Llama 2 7B (that of Q2_K is from before its mixture changed)
  it.each<[GgufFileTypeName, number]>([
    ['q3_k_s', 3.5],
    ['q3_k_m', 3.91],
    ['q3_k_l', 4.27],
    ['q4_k_s', 4.58],
    ['q4_k_m', 4.84],
    ['q5_k_s', 5.52],
    ['q5_k_m', 5.68],
    ['q6_k', 6.56],
  ])('%s: %d bits per weight', (name, bits) => {
    const { bytes, weights } = sizeOf(name, LLAMA2_7B);
    expect(Math.abs((8 * bytes) / weights - bits)).toBeLessThan(0.02);
  });
});

describe('ggufTensorType', () => {
  const typeOf = (fileType: GgufFileTypeName, name: string, facts: MixtureFacts = LLAMA2_7B, shape = [4096, 4096]) =>
    ggufTensorType(fileType, name, shape, facts).type;
  const byLayer = (fileType: GgufFileTypeName, part: string, facts: MixtureFacts = LLAMA2_7B) =>
    Array.from({ length: facts.layers }, (_, l) => typeOf(fileType, `blk.${l}.${part}.weight`, facts));
  const layersOf = (types: string[], type: string) => types.flatMap((t, l) => (t === type ? [l] : []));

  it('gives the first and last eighth of the layers, and every third between, more bits', () => {
    const more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31];
    expect(layersOf(byLayer('q4_k_m', 'attn_v'), 'Q6_K')).toEqual(more);
    expect(layersOf(byLayer('q4_k_m', 'ffn_down'), 'Q6_K')).toEqual(more);
    expect(layersOf(byLayer('q5_k_m', 'ffn_down'), 'Q6_K')).toEqual(more);
    expect(layersOf(byLayer('q4_k_m', 'attn_qkv'), 'Q6_K')).toEqual(more); // fused values count as values
    expect(layersOf(byLayer('q4_k_s', 'attn_v'), 'Q5_K')).toEqual([0, 1, 2, 3]);
    expect(layersOf(byLayer('q4_k_s', 'ffn_down'), 'Q5_K')).toEqual([0, 1, 2, 3]);
    expect(layersOf(byLayer('q3_k_m', 'attn_v'), 'Q5_K')).toEqual([0, 1]);
    expect(layersOf(byLayer('q3_k_m', 'ffn_down'), 'Q5_K')).toEqual([0, 1]);
    expect(layersOf(byLayer('iq4_xs', 'ffn_down'), 'Q5_K')).toEqual([0, 1, 2, 3]);
  });

  it('protects the first layers of Q4_0 and Q5_0 where importances are given', () => {
    const weighed = { ...LLAMA2_7B, importance: true };
    expect(layersOf(byLayer('q4_0', 'ffn_down', weighed), 'Q4_1')).toEqual([0, 1, 2, 3]);
    expect(layersOf(byLayer('q5_0', 'ffn_down', weighed), 'Q5_1')).toEqual([0, 1, 2, 3]);
    expect(new Set(byLayer('q4_0', 'ffn_down'))).toEqual(new Set(['Q4_0']));
    expect(new Set(byLayer('iq4_nl', 'ffn_down', weighed))).toEqual(new Set(['IQ4_NL']));
  });

  it.each<[string, GgufFileTypeName, string, MixtureFacts, string]>([
    ['shared values', 'q2_k', 'blk.0.attn_v.weight', LLAMA3_8B, 'Q4_K'],
    ['values of their own', 'q2_k', 'blk.0.attn_v.weight', LLAMA2_7B, 'Q3_K'],
    ['shared values', 'q2_k_s', 'blk.9.attn_v.weight', LLAMA3_8B, 'Q4_K'],
    ['shared values', 'iq4_nl', 'blk.9.attn_v.weight', LLAMA3_8B, 'Q5_K'],
    ['values of their own', 'iq4_nl', 'blk.9.attn_v.weight', LLAMA2_7B, 'IQ4_NL'],
    ['70 billion', 'q4_k_m', 'blk.11.attn_v.weight', LLAMA2_70B, 'Q5_K'],
    ['70 billion', 'q3_k_s', 'blk.11.attn_v.weight', LLAMA2_70B, 'Q5_K'],
    ['65 billion', 'q3_k_s', 'blk.11.attn_v.weight', { ...LLAMA2_70B, kvHeads: 64 }, 'Q3_K'],
    ['eight experts', 'q4_k_m', 'blk.11.attn_v.weight', MIXTRAL, 'Q8_0'],
    ['eight experts', 'q4_0', 'blk.11.attn_k.weight', MIXTRAL, 'Q8_0'],
    ['eight experts', 'q4_k_m', 'blk.11.attn_output.weight', MIXTRAL, 'Q5_K'],
    ['eight experts', 'q5_k_m', 'blk.11.attn_output.weight', MIXTRAL, 'Q5_K'],
    ['eight experts', 'q6_k', 'blk.11.attn_output.weight', MIXTRAL, 'Q6_K'],
    ['outputs', 'q2_k', 'blk.11.attn_output.weight', LLAMA2_7B, 'Q3_K'],
    ['outputs', 'q3_k_m', 'blk.11.attn_output.weight', LLAMA2_7B, 'Q4_K'],
    ['outputs', 'q3_k_l', 'blk.11.attn_output.weight', LLAMA2_7B, 'Q5_K'],
    ['the head', 'q4_0', 'output.weight', LLAMA2_7B, 'Q6_K'],
    ['the head', 'q8_0', 'output.weight', LLAMA2_7B, 'Q8_0'],
    ['the head', 'nvfp4', 'output.weight', LLAMA2_7B, 'Q6_K'],
    ['the embeddings', 'q4_0', 'token_embd.weight', LLAMA2_7B, 'Q4_0'],
    ['tied embeddings', 'q4_0', 'token_embd.weight', { ...LLAMA2_7B, tied: true }, 'Q6_K'],
    ['embeddings of ternary weights', 'tq1_0', 'token_embd.weight', LLAMA2_7B, 'Q4_K'],
    ['ternary weights', 'tq1_0', 'blk.0.ffn_up.weight', LLAMA2_7B, 'TQ1_0'],
    ['dense', 'mxfp4', 'blk.0.ffn_up.weight', LLAMA2_7B, 'MXFP4'],
    ['beside experts', 'mxfp4_moe', 'blk.0.attn_q.weight', MIXTRAL, 'Q8_0'],
    ['a norm', 'q4_k_m', 'blk.0.attn_norm.weight', LLAMA2_7B, 'F32'],
    ['a router', 'q4_k_m', 'blk.0.ffn_gate_inp.weight', MIXTRAL, 'F32'],
    ['floats', 'bf16', 'blk.0.attn_q.weight', LLAMA2_7B, 'BF16'],
  ])('%s in %s: %s', (_, fileType, name, facts, type) => {
    expect(typeOf(fileType, name, facts)).toBe(type);
  });

  it('stacked experts and vectors', () => {
    expect(typeOf('mxfp4_moe', 'blk.3.ffn_down_exps.weight', MIXTRAL, [8, 4096, 14336])).toBe('MXFP4');
    expect(typeOf('q4_k_m', 'blk.3.ffn_down_exps.weight', MIXTRAL, [8, 4096, 14336])).toBe('Q6_K');
    expect(typeOf('q4_k_m', 'blk.4.ffn_down_exps.weight', MIXTRAL, [8, 4096, 14336])).toBe('Q4_K');
    expect(typeOf('q4_k_m', 'blk.4.attn_q.bias', LLAMA2_7B, [4096])).toBe('F32');
  });

  it.each([
    ['Q4_K', 128, 'Q5_0'],
    ['Q5_K', 128, 'Q5_1'],
    ['Q6_K', 96, 'Q8_0'],
    ['Q2_K', 32, 'Q4_0'],
    ['TQ1_0', 128, 'Q4_0'],
    ['IQ4_XS', 128, 'IQ4_NL'],
    ['Q6_K', 48, 'F16'],
    ['Q4_0', 48, 'F16'],
    ['NVFP4', 96, 'F16'],
  ] as const)('%s in %d columns is %s, and says so', (wanted, columns, type) => {
    expect(fitColumns(wanted, columns)).toEqual({ type, wanted });
    expect(fitColumns(wanted, 256)).toEqual({ type: wanted });
  });

  it('falls back tensor by tensor', () => {
    const facts = { ...LLAMA2_7B, tied: true };
    expect(ggufTensorType('q4_k_m', 'token_embd.weight', [100, 384], facts)).toEqual({ type: 'Q8_0' }); // llama.cpp asks for it itself there
    expect(ggufTensorType('q4_0', 'token_embd.weight', [100, 384], facts)).toEqual({ type: 'Q8_0', wanted: 'Q6_K' });
    expect(ggufTensorType('q2_k', 'blk.0.ffn_down.weight', [384, 384], facts)).toEqual({ type: 'Q4_0', wanted: 'Q3_K' });
  });

  it('knows every name of a file type', () => {
    expect(GGUF_FILE_TYPES.size).toBe(25);
    expect(new Set([...GGUF_FILE_TYPES.values()].map((t) => t.id)).size).toBe(24); // mxfp4 shares one
    for (const { type } of GGUF_FILE_TYPES.values()) expect(GGUF_TYPES.has(type)).toBe(true);
  });
});
