/**
 * Folders as GPTQModel and AutoGPTQ write them.
 * @module
 */
import { gptqConfig, toGptqTensors } from '@lmq/checkpoints';
import type { GptqVersion } from '@lmq/formats';
import { asAffine, mostCommon, surveySchemes } from './affine.js';
import type { FolderFormat } from './format.js';
import { checkAffine } from './rules.js';

const BITS = [2, 3, 4, 8];

/**
 * @param version how zero points are stored. Default: version 1, which every runtime reads, for symmetric models; version 2 for others, because
 * version 1 cannot hold a zero point of 0, and GPTQModel (models/loader.py) takes asymmetric files of version 1 only from itself.
 */
export function gptqFolder(target: string, version?: GptqVersion): FolderFormat {
  return {
    check: (planned) =>
      checkAffine(
        { target, bits: BITS, out: 32, inputs: 32, actOrder: true, mixed: true, head: true, asymmetric: version !== 'v1' },
        planned,
      ),
    bytes({ out, in: inputs, stage }) {
      const groups = stage.groupSize < 0 ? 1 : Math.ceil(inputs / stage.groupSize);
      return (out * inputs * stage.bits) / 8 + groups * (2 * out + (out * stage.bits) / 8) + 4 * inputs;
    },
    begin: (facts) =>
      surveySchemes(
        facts,
        (name, t) => toGptqTensors(name, t, { version: version ?? 'v2' }),
        (schemes, unquantized) => {
          const sym = schemes.every((s) => s.symmetric);
          const stored = version ?? (sym ? 'v1' : 'v2');
          const plain = unquantized.filter((l) => l !== 'lm_head');
          const { bits, groupSize } = mostCommon(schemes);
          const overrides = schemes.filter((s) => s.bits !== bits || s.groupSize !== groupSize);
          const quantization = gptqConfig({
            bits,
            groupSize,
            sym,
            descAct: schemes.some((s) => s.actOrder),
            version: stored,
            lmHead: schemes.some((s) => s.module === 'lm_head'),
            overrides: overrides.map(({ module, bits, groupSize }) => ({ module, bits, groupSize })),
            modulesToNotConvert: plain,
          });
          const notes: string[] = [];
          if (stored !== version && !sym)
            notes.push('written as gptq_v2: not every runtime takes asymmetric files of version 1, which cannot hold all zero points');
          if (overrides.length || plain.length)
            notes.push('linears differ: rules of "dynamic" say how, which GPTQModel and vLLM follow and older runtimes do not');
          return {
            quantization,
            files: { 'quantize_config.json': quantization },
            notes,
            pack: (name, t) => toGptqTensors(name, asAffine(t), { version: stored }),
          };
        },
      ),
  };
}
