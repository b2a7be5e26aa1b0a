/**
 * A linear as AWQ checkpoints store it.
 * @module
 */
import { packRows, packStream, unpackAwq } from '@lmq/formats';
import { fail } from './_checks.js';
import { typedView } from './_floats.js';
import { fittingGroupSize, type GroupSizes } from './_group-index.js';
import { allAre, formatName, type LinearPlan, type PackedLinear, readScales, SCALES, wrongShape } from './_packed-linears.js';

export const AWQ_PARTS = ['qweight', 'qzeros', 'scales'] as const;

export interface AwqConfig extends GroupSizes {
  /** Whether zero points may be other than 8. */
  zeroPoint: boolean;
}

/** Checks a linear's shapes against each other and the configuration. */
export function planAwq(linear: PackedLinear, config: AwqConfig): LinearPlan {
  const { where } = linear;
  const [inputs, words] = linear.shape('qweight', ['I32'], 2) as [number, number];
  const [groups, out] = linear.shape('scales', SCALES, 2) as [number, number];
  linear.shape('qzeros', ['I32'], 2);
  if (words * 8 !== out) {
    const gptq = words === out ? 'These are the shapes of GPTQ: quant_method should be gptq.' : undefined;
    wrongShape(linear, 'scales', [groups, words * 8], gptq);
  }
  const [zeroRows, zeroWords] = linear.parts.get('qzeros')!.shape;
  if (zeroRows !== groups || zeroWords !== words) wrongShape(linear, 'qzeros', [groups, words]);
  const groupSize = fittingGroupSize(config, inputs, groups, where);
  if (inputs !== groups * groupSize)
    fail('model/config', 'the inputs are not whole groups', { ...where, expected: `a multiple of ${groupSize}`, found: inputs });
  return {
    shape: [out, inputs],
    format: formatName(4, groupSize, inputs),
    async read() {
      const codes = packRows(unpackAwq(typedView(await linear.bytes('qweight'), Int32Array), out, inputs), 4, out, inputs);
      const scales = await readScales(linear, groups, out, groupSize);
      const zeros = unpackAwq(typedView(await linear.bytes('qzeros'), Int32Array), out, groups);
      const symmetric = allAre(zeros, 8);
      if (!symmetric && !config.zeroPoint)
        fail('model/config', 'the configuration says symmetric, the zero points do not', {
          ...where,
          op: 'read',
          expected: 8,
          found: zeros.find((z) => z !== 8),
          hint: `Runtimes disagree on such a file. If its zero points count, set zero_point to true in ${config.file}.`,
        });
      return {
        kind: 'affine',
        shape: [out, inputs],
        bits: 4,
        groupSize,
        codes,
        scales,
        ...(!symmetric && { zeroPoints: packStream(zeros, 4) }),
      };
    },
  };
}
