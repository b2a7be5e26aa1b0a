/**
 * Schemes that a configuration of compressed-tensors may give by name, in the words of its own files.
 * Source: compressed-tensors 0.20.1 quantization/quant_scheme.py.
 * @module
 */
import type { Fields } from './_object.js';

const int = (num_bits: number, more: Fields = {}): Fields => ({ num_bits, type: 'int', strategy: 'group', group_size: 128, ...more });
const float = (num_bits: number, strategy: string, more: Fields = {}): Fields => ({ num_bits, type: 'float', strategy, ...more });
const mx = (bits: number) => float(bits, 'group', { group_size: 32, scale_dtype: 'torch.uint8' });
const nvfp4 = float(4, 'tensor_group', { group_size: 16, scale_dtype: 'torch.float8_e4m3fn' });
const token = (type: string, num_bits = 8): Fields => ({ num_bits, type, strategy: 'token', dynamic: true });
const dynamic = (args: Fields): Fields => ({ ...args, dynamic: true });
const scheme = (weights: Fields, input_activations?: Fields): Fields => (input_activations ? { weights, input_activations } : { weights });

const presets = (): Readonly<Record<string, Fields>> => ({
  UNQUANTIZED: {},
  W4A16_ASYM: scheme(int(4, { symmetric: false })),
  W8A8: scheme({ num_bits: 8, type: 'int', strategy: 'channel' }, token('int')),
  INT8: scheme({ num_bits: 8, type: 'int', strategy: 'channel' }, token('int')),
  W4AFP8: scheme(int(4), token('float')),
  FP8: scheme(float(8, 'tensor'), float(8, 'tensor')),
  FP8_DYNAMIC: scheme(float(8, 'channel'), token('float')),
  FP8_BLOCK: scheme(float(8, 'block', { block_structure: [128, 128] }), dynamic(float(8, 'group', { group_size: 128 }))),
  NVFP4A16: scheme(nvfp4),
  NVFP4: scheme(nvfp4, { ...nvfp4, dynamic: 'local' }),
  MXFP4A16: scheme(mx(4)),
  MXFP4: scheme(mx(4), dynamic(mx(4))),
  MXFP4XFP8: scheme(mx(4), dynamic(float(8, 'group', { group_size: 128 }))),
  MXFP6A16: scheme(mx(6)),
  MXFP6A8: scheme(mx(6), dynamic(mx(8))),
  MXFP8A16: scheme(mx(8)),
  MXFP8: scheme(mx(8), dynamic(mx(8))),
});

/** `weights` and `input_activations` of a scheme by its name, `undefined` for a name that is none. Case does not matter. */
export function presetScheme(name: string): Fields | undefined {
  const upper = name.toUpperCase();
  const named = presets();
  if (Object.hasOwn(named, upper)) return named[upper];
  const [, bits, inputs] = /^W([2-8])A(4|8|16)$/.exec(upper) ?? [];
  if (bits === undefined || Number(bits) > Number(inputs)) return undefined;
  return inputs === '16' ? scheme(int(Number(bits))) : scheme(int(Number(bits)), token('int', Number(inputs)));
}
