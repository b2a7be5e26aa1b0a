/**
 * Folders as AutoAWQ writes them: 4 bits, layout GEMM.
 * @module
 */
import { awqConfig, toAwqTensors } from '@lmq/checkpoints';
import { type Affine, LmqError } from '@lmq/tensor';
import { asAffine, schemeOf, surveySchemes } from './affine.js';
import type { FolderFormat } from './format.js';
import { checkAffine } from './rules.js';

export const awqFolder: FolderFormat = {
  check: (planned) =>
    checkAffine({ target: 'awq', bits: [4], out: 8, inputs: 1, actOrder: false, mixed: false, head: false, asymmetric: true }, planned),
  bytes({ out, in: inputs, stage }) {
    const groups = stage.groupSize < 0 ? 1 : inputs / stage.groupSize;
    return (out * inputs) / 2 + groups * (2 * out + out / 2);
  },
  begin: (facts) =>
    surveySchemes(
      facts,
      (name, t, [first]) => {
        const refuse = (what: string, expected: unknown, found: unknown): never => {
          throw new LmqError('export/unsupported', what, { op: 'export', tensor: name, expected, found, hint: 'GPTQ files can hold it.' });
        };
        toAwqTensors(name, t);
        const { bits, groupSize } = schemeOf(name, t as Affine);
        if (name === 'lm_head.weight') refuse('AWQ leaves the output head as it is', 'plain floats', bits);
        if (first && groupSize !== first.groupSize) refuse('AWQ has one group size for all linears', first.groupSize, groupSize);
      },
      (schemes, unquantized) => ({
        quantization: awqConfig({
          groupSize: schemes[0]?.groupSize ?? -1,
          modulesToNotConvert: unquantized.filter((l) => l !== 'lm_head'),
        }),
        files: {},
        notes: [],
        pack: (name, t) => toAwqTensors(name, asAffine(t)),
      }),
    ),
};
