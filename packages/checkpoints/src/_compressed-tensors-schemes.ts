/**
 * What compressed-tensors can hold of a tensor, and how: its format and the facts of its group in the configuration.
 * @module
 */
import { type CompressedTensorsPacking, FLOAT_TRAITS, validate } from '@lmq/formats';
import { type Affine, type CompressedTensor, checkOneOf, type GridScales, type InputQuant, type Minifloat } from '@lmq/tensor';
import { checkZeroPoints, type Refuse } from './_affine-export.js';
import { unevenGroup } from './_group-index.js';

export type CompressedTensorsFormat =
  | 'pack-quantized'
  | 'int-quantized'
  | 'float-quantized'
  | 'mxfp8-quantized'
  | 'mxfp6-pack-quantized'
  | 'mxfp4-pack-quantized'
  | 'nvfp4-pack-quantized';

export interface CompressedTensorsOpts {
  /**
   * For `affine`: `pack-quantized` (default) or `int-quantized` (default with an `input`), a byte per code whatever the bits, which runtimes want where
   * they round inputs too. The layouts of floats have one format each.
   */
  format?: CompressedTensorsFormat;
  /**
   * How codes of 3, 5, 6 and 7 bits are packed: `stream` (default) as compressed-tensors of 2026 does, `whole` as it did before. Others are
   * the same in both.
   */
  packing?: CompressedTensorsPacking;
  /** How runtimes round the inputs of the linear, of integer weights: int8, per token or tensor, with a scale found at run time or stored. Default: not. */
  input?: InputQuant;
}

/** How a linear is stored, in the words of the configuration. */
export interface CompressedTensorsScheme {
  format: CompressedTensorsFormat;
  weights: {
    num_bits: number;
    type: 'int' | 'float';
    symmetric: boolean;
    strategy: 'tensor' | 'channel' | 'group' | 'tensor_group' | 'block';
    group_size: number | null;
    block_structure?: [rows: number, cols: number];
    dynamic: false;
    actorder?: 'group';
    scale_dtype?: string;
  };
  input_activations?: { num_bits: 8; type: 'int'; symmetric: boolean; strategy: 'token' | 'tensor'; dynamic: boolean };
}

/** @throws LmqError `argument/*` for a tensor that is not valid or an unknown option; calls `refuse` for what cannot be held */
export function schemeOf(tensor: CompressedTensor, opts: CompressedTensorsOpts, refuse: Refuse, op: string): CompressedTensorsScheme {
  const { packing = 'stream', input } = opts;
  const format = opts.format ?? (input && 'int-quantized');
  checkOneOf(packing, 'packing', ['stream', 'whole'], op);
  if (tensor.kind !== 'affine' && tensor.kind !== 'minifloat')
    return refuse(
      'the layout cannot be stored',
      'affine or minifloat',
      tensor.kind,
      'Write it like any other tensor, and ignore its module.',
    );
  validate(tensor);
  const scheme = tensor.kind === 'affine' ? intScheme(tensor, format ?? 'pack-quantized', refuse) : floatScheme(tensor, refuse);
  if (format !== undefined && format !== scheme.format) refuse('the layout has another format', format, scheme.format);
  return input ? { ...scheme, input_activations: int8Inputs(input, refuse) } : scheme;
}

function int8Inputs(input: InputQuant, refuse: Refuse): CompressedTensorsScheme['input_activations'] {
  if (input.kind !== 'int8') return refuse('inputs cannot be rounded so', 'int8 per token or tensor', input.kind);
  return { num_bits: 8, type: 'int', symmetric: input.symmetric, strategy: input.per, dynamic: input.static === undefined };
}

function intScheme(t: Affine, format: CompressedTensorsFormat, refuse: Refuse): CompressedTensorsScheme {
  if (format !== 'pack-quantized' && format !== 'int-quantized')
    return refuse('the layout has another format', 'pack-quantized or int-quantized', format);
  const [, inputs] = t.shape;
  const { format: scale } = t.scales;
  if (scale !== 'fp16' && scale !== 'bf16' && (scale !== 'fp32' || format === 'pack-quantized'))
    refuse('scales of this format cannot be stored', 'fp16 or bf16', scale, 'Runtimes would round them; quantize with fp16 scales.');
  checkZeroPoints(t, refuse);
  const weights = sharing(t.scales, t.shape, refuse);
  const actOrder = t.groupIndex !== undefined && t.groupSize < inputs;
  if (actOrder) {
    if (weights.strategy !== 'group') refuse('act-order needs a scale per row', 'groups', weights.strategy);
    const uneven = unevenGroup(t.groupIndex!, inputs / t.groupSize, t.groupSize);
    if (uneven >= 0)
      refuse('a group does not have its number of columns', `${t.groupSize} columns a group`, `another number in group ${uneven}`);
  }
  return {
    format,
    weights: {
      num_bits: t.bits,
      type: 'int',
      symmetric: !t.zeroPoints,
      ...weights,
      dynamic: false,
      ...(actOrder && { actorder: 'group' }),
    },
  };
}

function floatScheme(t: Minifloat, refuse: Refuse): CompressedTensorsScheme {
  const { scales, format } = t;
  const num_bits = FLOAT_TRAITS[format].bits;
  if (format !== 'fp8e4m3' && format !== 'fp6e2m3' && format !== 'fp4e2m1')
    refuse('elements of this format cannot be stored', 'fp8e4m3, fp6e2m3 or fp4e2m1', format);
  const as = (name: CompressedTensorsFormat, sharing: Sharing, scale_dtype?: string): CompressedTensorsScheme => ({
    format: name,
    weights: { num_bits, type: 'float', symmetric: true, ...sharing, dynamic: false, ...(scale_dtype && { scale_dtype }) },
  });
  if (format === 'fp8e4m3' && !scales) return as('float-quantized', { strategy: 'tensor', group_size: null });
  const wanted = format === 'fp4e2m1' ? '1x32 e8m0 or 1x16 fp8e4m3' : format === 'fp6e2m3' ? '1x32 e8m0' : 'float scales, or 1x32 e8m0';
  if (!scales || !Array.isArray(scales.block))
    return refuse('scales so shared cannot be stored', wanted, scales ? scales.block : 'no scales');
  const block = `${scales.block.join('x')} ${scales.format}`;
  const shared = sharing(scales as GridScales, t.shape, refuse);
  if (format === 'fp4e2m1' && block === '1x16 fp8e4m3') {
    if (scales.global?.op === 'multiply')
      refuse('a global scale to multiply with cannot be stored', 'one to divide by', 'multiply', 'Its inverse would be rounded.');
    return as('nvfp4-pack-quantized', { strategy: 'tensor_group', group_size: 16 }, 'torch.float8_e4m3fn');
  }
  if (block === '1x32 e8m0') return as(MX[num_bits]!, { strategy: 'group', group_size: 32 }, 'torch.uint8');
  if (format !== 'fp8e4m3' || scales.format === 'e8m0' || scales.format === 'fp8e4m3' || scales.format === 'table8')
    return refuse('scales so shared cannot be stored', wanted, block);
  return as('float-quantized', shared);
}

const MX: Readonly<Record<number, CompressedTensorsFormat>> = {
  8: 'mxfp8-quantized',
  6: 'mxfp6-pack-quantized',
  4: 'mxfp4-pack-quantized',
};

type Sharing = Pick<CompressedTensorsScheme['weights'], 'strategy' | 'group_size' | 'block_structure'>;

/** Which weights share a scale. */
function sharing({ block: [rows, cols] }: GridScales, [out, inputs]: readonly [number, number], refuse: Refuse): Sharing {
  if (cols === inputs && rows === 1) return { strategy: 'channel', group_size: null };
  if (cols === inputs && rows === out) return { strategy: 'tensor', group_size: null };
  if (rows > 1) return { strategy: 'block', group_size: null, block_structure: [rows, cols] };
  if (inputs % cols !== 0)
    refuse('the inputs are not whole groups', `a multiple of ${cols}`, inputs, 'Take a smaller group, or leave this weight unquantized.');
  return { strategy: 'group', group_size: cols };
}
