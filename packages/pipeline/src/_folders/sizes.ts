/**
 * Stored sizes, before there is anything to store.
 * @module
 */
import type { TensorToWrite } from '@lmq/checkpoints';
import type { Affine, CompressedTensor } from '@lmq/tensor';
import type { PlannedSite } from '../plan.js';

/** Bytes per element; one for all others. */
const WIDTHS: Readonly<Record<string, number>> = { I64: 8, I32: 4, F32: 4, F16: 2, BF16: 2 };

/** What a format stores of a linear, told by a weight of zeros as the stage would make it: what is in it makes no difference. */
export function storedBytes(pack: (name: string, t: CompressedTensor) => TensorToWrite[], { site, ...planned }: PlannedSite): number {
  const parts = pack(`${site.name}.weight`, zeros(planned));
  return parts.reduce((sum, { shape, dtype }) => sum + shape.reduce((n, d) => n * d, WIDTHS[dtype] ?? 1), 0);
}

function zeros({ out, in: inputs, stage: { bits, symmetric, scaleFormat, ...stage } }: Omit<PlannedSite, 'site'>): Affine {
  const groupSize = stage.groupSize < 0 ? inputs : stage.groupSize;
  const scales = out * Math.ceil(inputs / groupSize);
  const ordered = stage.method === 'gptq' && stage.actOrder && stage.staticGroups !== true && groupSize < inputs;
  return {
    kind: 'affine',
    shape: [out, inputs],
    bits,
    groupSize,
    codes: new Uint8Array(out * Math.ceil((inputs * bits) / 8)),
    scales: {
      block: [1, groupSize],
      format: scaleFormat,
      data: scaleFormat === 'fp32' ? new Float32Array(scales) : new Uint16Array(scales),
    },
    ...(!symmetric && { zeroPoints: new Uint8Array(Math.ceil((scales * bits) / 8)) }),
    ...(ordered && { groupIndex: Int32Array.from({ length: inputs }, (_, c) => Math.floor(c / groupSize)) }),
  };
}
