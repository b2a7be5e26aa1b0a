/**
 * Putting an `Affine` weight together from codes and parameters.
 * @module
 */
import { encodeFloats, packRows, packStream } from '@lmq/formats';
import type { Affine } from '@lmq/tensor';
import type { AffineParams, Scheme } from './api.js';

/**
 * Packs codes, scales and zero points.
 * @param codes one code per byte, [rows, cols] row-major, columns in their original order
 * @param groupIndex group of each column, when columns are not grouped in order
 */
export function toAffine(
  scheme: Scheme,
  shape: readonly [rows: number, cols: number],
  codes: Uint8Array,
  params: AffineParams,
  groupIndex?: Int32Array,
): Affine {
  const [rows, cols] = shape;
  const weight: Affine = {
    kind: 'affine',
    shape: [rows, cols],
    bits: scheme.bits,
    groupSize: scheme.block[1],
    codes: packRows(codes, scheme.bits, rows, cols),
    scales: { block: [...scheme.block], format: scheme.scaleFormat, data: encodeFloats(scheme.scaleFormat, params.scales) },
  };
  if (!scheme.symmetric) weight.zeroPoints = packStream(Uint8Array.from(params.zeroPoints), scheme.bits);
  if (groupIndex) weight.groupIndex = groupIndex;
  return weight;
}
