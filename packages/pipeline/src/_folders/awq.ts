/**
 * Folders as AutoAWQ writes them: 4 bits, layout GEMM.
 * @module
 */
import { awqConfig, toAwqTensors } from '@lmq/checkpoints';
import { type Affine, LmqError } from '@lmq/tensor';
import { asAffine, type Scheme, schemeNotes, schemeOf } from './affine.js';
import type { FolderFormat } from './format.js';
import { checkAffine } from './rules.js';

export const awqFolder: FolderFormat = {
  check: (planned) =>
    checkAffine({ target: 'awq', bits: [4], out: 8, inputs: 1, actOrder: false, mixed: false, head: false, asymmetric: true }, planned),
  bytes({ out, in: inputs, stage }) {
    const groups = stage.groupSize < 0 ? 1 : inputs / stage.groupSize;
    return (out * inputs) / 2 + groups * (2 * out + out / 2);
  },
  begin({ linears, dtype }) {
    const schemes: Scheme[] = [];
    return {
      add(name, tensor) {
        const t = asAffine(tensor);
        const refuse = (what: string, expected: unknown, found: unknown): never => {
          throw new LmqError('export/unsupported', what, { op: 'export', tensor: name, expected, found, hint: 'GPTQ files can hold it.' });
        };
        toAwqTensors(name, t);
        const scheme = schemeOf(name.slice(0, -'.weight'.length), t as Affine);
        if (scheme.module === 'lm_head') refuse('AWQ leaves the output head as it is', 'plain floats', scheme.bits);
        const { groupSize = scheme.groupSize } = schemes[0] ?? {};
        if (scheme.groupSize !== groupSize) refuse('AWQ has one group size for all linears', groupSize, scheme.groupSize);
        schemes.push(scheme);
      },
      finish() {
        const plain = linears.filter((l) => l !== 'lm_head' && !schemes.some((s) => s.module === l));
        return {
          quantization: awqConfig({ groupSize: schemes[0]?.groupSize ?? -1, modulesToNotConvert: plain }),
          files: {},
          notes: schemeNotes(schemes, dtype, (module) => linears.includes(module)),
          pack: (name, t) => toAwqTensors(name, asAffine(t)),
        };
      },
    };
  },
};
