/**
 * Linears of compressed-tensors in floats of 8, 6 and 4 bits: FP8 with float scales, and the MX formats and NVFP4.
 * @module
 */
import type { FloatFormat, Minifloat, MinifloatFormat, Scales } from '@lmq/tensor';
import { fail } from './_checks.js';
import { blockName, type Candidates, chooseGroup, scaleBlock, scaleShape } from './_compressed-tensors-groups.js';
import { DTYPES } from './_dtypes.js';
import { floatData, typedView } from './_floats.js';
import { type LinearPlan, SCALES, wrongShape } from './_packed-linears.js';

/** Formats of elements by their bits; E5M2 and E3M2 are none. */
const ELEMENTS: Readonly<Record<number, MinifloatFormat>> = { 8: 'fp8e4m3', 6: 'fp6e2m3', 4: 'fp4e2m1' };
/** Dtypes of a power of two: bytes in all versions so far. */
export const POWERS = ['U8', 'F8_E8M0'];

/** `float-quantized`, `naive-quantized`, `mxfp8-quantized` (`weight`); `nvfp4-`, `mxfp4-`, `mxfp6-pack-quantized` (`weight_packed`, in bytes). */
export function planFloat(of: Candidates): LinearPlan {
  const { linear } = of;
  const part = linear.parts.has('weight') ? 'weight' : 'weight_packed';
  const [out, bytes] = linear.shape(part, part === 'weight' ? ['F8_E4M3'] : ['U8'], 2) as [number, number];
  const scales = scaleShape(of, part === 'weight' ? [...SCALES, ...POWERS] : ['F8_E4M3', ...POWERS]);
  const power = POWERS.includes(linear.dtype('weight_scale'));
  const nvfp4 = linear.dtype('weight_scale') === 'F8_E4M3';
  const { bits, block } = chooseGroup(of, (w) => {
    const fits = w.type === 'float' && w.symmetric && (part === 'weight' ? w.bits === 8 : w.bits === 4 || w.bits === 6);
    const grouped = nvfp4 ? w.strategy === 'tensor_group' : power ? w.strategy === 'group' : w.strategy !== 'tensor_group';
    const inputs = (bytes * 8) / w.bits;
    return fits && grouped && Number.isInteger(inputs) ? scaleBlock(w, scales, out, inputs) : undefined;
  });
  const element = ELEMENTS[bits]!;
  const shape: [number, number] = [out, (bytes * 8) / bits];
  for (const stray of ['weight_zero_point', 'weight_g_idx', 'weight_shape', ...(nvfp4 ? [] : ['weight_global_scale'])])
    if (linear.parts.has(stray))
      fail('file/format', 'a linear in floats has a part that does not belong to it', { ...linear.where, found: stray });
  if (nvfp4) {
    const found = linear.shape('weight_global_scale', ['F32'], linear.parts.get('weight_global_scale')?.shape.length ?? 1);
    if (found.some((n) => n !== 1)) wrongShape(linear, 'weight_global_scale', [1]);
  }
  return {
    shape,
    format: nvfp4 ? 'nvfp4' : power ? `mxfp${bits}` : `${element} ${blockName(block, shape)}`,
    async read(): Promise<Minifloat> {
      const codes = await linear.bytes(part);
      const data = await linear.bytes('weight_scale');
      let stored: Scales;
      if (nvfp4) {
        const [value] = typedView(await linear.bytes('weight_global_scale'), Float32Array);
        stored = { block, format: 'fp8e4m3', data, global: { op: 'divide', value: value! } };
      } else if (power) stored = { block, format: 'e8m0', data };
      else {
        const format = DTYPES.get(linear.dtype('weight_scale'))!.float as FloatFormat;
        stored = { block, format, data: floatData(data, format) };
      }
      return { kind: 'minifloat', shape, format: element, codes, scales: stored };
    },
  };
}
