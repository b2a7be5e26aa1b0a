/**
 * How each format is called, and what runtimes may stumble over in it.
 * @module
 */

import type { Checkpoint, GgufFile } from '@lmq/checkpoints';
import { isFloatZeros, layoutName } from '@lmq/formats';
import { type CompressedTensor, printable } from '@lmq/tensor';
import { fileTypeName } from '../_gguf-file-type.js';
import { isDense } from '../plan.js';

/** Tensors of one format. */
export interface FormatShare {
  format: string;
  tensors: number;
  bytes: number;
  /** Of all bytes. */
  share: number;
}

export interface Subject {
  checkpoint: Checkpoint;
  formats: readonly FormatShare[];
  quirks: string[];
  quantization?: Record<string, unknown>;
  dtype?: string;
  /** The first weight that is not plain floats. */
  sample?: CompressedTensor;
}

export const MISLABELLED = 'the label contradicts the data: ';

/** How each format is named; one that is not here goes by what most of it is. */
export const NAMES: Partial<Record<Checkpoint['format'], (of: Subject) => string>> = {
  gguf({ checkpoint, formats, quirks }) {
    const { version } = checkpoint as GgufFile;
    if (checkpoint.metadata.get('general.type') === 'imatrix')
      return `importance matrix, GGUF v${version}, of ${checkpoint.metadata.get('imatrix.chunk_count') ?? '?'} chunks`;
    const most = formats[0]?.format;
    const says = fileTypeName(checkpoint);
    const mixture = says !== undefined && most !== undefined && says !== most && says.startsWith(most) ? ` (${says} mixture)` : '';
    const split = Number(checkpoint.metadata.get('split.count') ?? 1);
    if (version < 3) quirks.push(`GGUF version ${version} is outdated: llama.cpp reads version 2 and 3`);
    return [`GGUF v${version ?? '?'}`, most && `mostly ${printable(most)}${mixture}`, split > 1 && `split in ${split}`]
      .filter(Boolean)
      .join(', ');
  },
  gptq({ formats, quantization = {}, sample, dtype, quirks }) {
    const v2 = (quantization.checkpoint_format ?? quantization.format) === 'gptq_v2';
    const t = sample?.kind === 'affine' ? sample : undefined;
    if (t?.bits === 3 && !v2) quirks.push('3-bit zero points of version 1 are read wrongly by some runtimes');
    if (t && symmetry(t) === 'asymmetric' && !v2)
      quirks.push('asymmetric zero points of version 1: GPTQModel takes such files only from itself');
    if (quantization.desc_act === true && t && !t.groupIndex)
      quirks.push('desc_act is true, and columns are grouped in order: runtimes take a slower path than they need');
    if (quantization.dynamic) quirks.push('rules of "dynamic" give linears different bits or groups: older runtimes ignore them');
    scalesQuirk(t, dtype, quirks);
    const order = t?.groupIndex ? ', act-order' : '';
    return `GPTQ ${v2 ? 'v2' : 'v1'}, ${widths(formats)} ${t ? symmetry(t) : quantization.sym === false ? 'asymmetric' : 'symmetric'}${order}`;
  },
  awq({ formats, sample, dtype, quirks }) {
    const t = sample?.kind === 'affine' ? sample : undefined;
    scalesQuirk(t, dtype, quirks);
    return `AWQ GEMM, ${widths(formats)}${t ? ` ${symmetry(t)}` : ''}`;
  },
  'auto-round'({ formats, quantization = {}, sample, dtype, quirks }) {
    const t = sample?.kind === 'affine' ? sample : undefined;
    scalesQuirk(t, dtype, quirks);
    if (quantization.extra_config)
      quirks.push('rules of "extra_config" say which linears differ or are not quantized: AutoRound follows them');
    const packing = printable(quantization.packing_format ?? 'auto_round:gptq').replace(/^auto_round:/, '');
    return `AutoRound ${packing}, ${widths(formats)}${t ? ` ${symmetry(t)}` : ''}`;
  },
  'compressed-tensors'({ formats, quantization = {}, sample, dtype, quirks }) {
    const t = sample?.kind === 'affine' ? sample : undefined;
    scalesQuirk(t, dtype, quirks);
    const groups = Object.values((quantization.config_groups ?? {}) as Record<string, { format?: unknown } | null>);
    const stored = [...new Set(groups.map((g) => g?.format ?? quantization.format ?? '?'))].map(printable).join(' and ');
    if (quantization.format === 'int-quantized' && t && t.bits < 8) quirks.push(`codes of ${t.bits} bits take a byte each`);
    if (quantization.format === 'naive-quantized') quirks.push('naive-quantized is an outdated name, which newer runtimes may not know');
    if (t?.groupIndex && quantization.format !== 'pack-quantized') quirks.push('act-order that is not packed: vLLM does not run it');
    return `compressed-tensors ${stored || printable(quantization.format)}, ${widths(formats)}${t ? ` ${symmetry(t)}` : ''}${t?.groupIndex ? ', act-order' : ''}`;
  },
  bitsandbytes({ formats, quantization = {}, quirks }) {
    const [, type, block, nested] = formats.map((f) => /^lut 4-bit (\w+) flat (\d+)( table8)?/.exec(f.format)).find(Boolean) ?? [];
    if (!type) return 'bitsandbytes LLM.int8(), 8-bit per row';
    const [says, double] = [quantization.bnb_4bit_quant_type, quantization.bnb_4bit_use_double_quant ?? false];
    if (says !== undefined && says !== type)
      quirks.push(`bnb_4bit_quant_type is ${printable(says)}, and the weights are ${type}: runtimes go by the weights`);
    if (double !== (nested !== undefined))
      quirks.push(`bnb_4bit_use_double_quant is ${double}, and scales are ${nested ? '' : 'not '}quantized: runtimes go by the weights`);
    return `bitsandbytes ${type.toUpperCase()}, blocks of ${block}${nested ? ', double quantization' : ''}`;
  },
  hqq({ formats, quantization = {}, sample, dtype, quirks }) {
    const t = sample?.kind === 'affine' ? sample : undefined;
    scalesQuirk(t, dtype, quirks);
    if (formats.some((f) => f.format.startsWith('hqq')))
      quirks.push('groups that do not lie along rows (axis 0) are decoded when they are read');
    const config = (quantization.quant_config ?? {}) as { weight_quant_params?: { nbits?: unknown; group_size?: unknown } | null };
    const { nbits } = config.weight_quant_params ?? {};
    if (t && typeof nbits === 'number' && nbits !== t.bits)
      quirks.push(`quant_config says ${nbits} bits, and weights have ${t.bits}: HQQ goes by the weights, vLLM by quant_config`);
    return `HQQ, ${widths(formats)}, ${t && isFloatZeros(t.zeroPoints) ? 'zero points in floating point' : 'no zero points'}`;
  },
  onnx({ formats }) {
    const packed = formats.filter((f) => f.format.startsWith('affine'));
    return `ONNX, ${packed.length ? `MatMulNBits ${widths(packed)}` : printable(formats[0]?.format ?? 'no weights')}`;
  },
};

/** `bf16 safetensors in 3 files`, `lmq, mostly affine 4-bit g64 asym`. */
export function plainName({ checkpoint, formats }: Subject): string {
  const files = new Set([...checkpoint.tensors.values()].map((t) => t.file)).size;
  const most = formats[0]?.format ?? 'empty';
  return `${checkpoint.format}, ${formats.length > 1 ? 'mostly ' : ''}${printable(most)}${files > 1 ? `, ${files} files` : ''}`;
}

/** `4-bit g128`, or of several kinds the largest. */
function widths(formats: readonly FormatShare[]): string {
  const quantized = formats.filter((f) => !isDense(f)).map((f) => f.format.replace(/^affine /, ''));
  return `${quantized[0]}${quantized.length > 1 ? ` (and ${quantized.slice(1).join(', ')})` : ''}`;
}

const symmetry = (t: CompressedTensor) => (layoutName(t).includes(' sym') ? 'symmetric' : 'asymmetric');

function scalesQuirk(t: CompressedTensor | undefined, dtype: string | undefined, quirks: string[]): void {
  if (t?.kind !== 'affine' || dtype === undefined || t.scales.format === dtype || t.scales.format === 'fp32') return;
  quirks.push(`scales are ${t.scales.format}, and config.json says ${dtype}: runtimes that load the model in ${dtype} round them`);
}
