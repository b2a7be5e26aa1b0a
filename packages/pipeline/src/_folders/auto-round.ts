/**
 * Folders as AutoRound writes them in its own format: the tensors of GPTQ or AWQ.
 * @module
 */
import { type AutoRoundPacking, autoRoundConfig, toAutoRoundTensors } from '@lmq/checkpoints';
import { asAffine, mostCommon, surveySchemes } from './affine.js';
import type { FolderFormat } from './format.js';
import { checkAffine, hasZeroPoints } from './rules.js';
import { storedBytes } from './sizes.js';

/** @param packing Default: version 1 of GPTQ for symmetric models, version 2, which holds every zero point, for others */
export function autoRoundFolder(target: string, packing?: AutoRoundPacking): FolderFormat {
  const rules =
    packing === 'awq' ? { bits: [4], out: 8, inputs: 1 } : { bits: [2, 3, 4, 8], out: 32, inputs: 32, asymmetric: packing !== 'gptq-v1' };
  return {
    check: (planned) => checkAffine({ target, actOrder: false, mixed: true, head: true, asymmetric: true, ...rules }, planned),
    bytes(site, _, planned) {
      const sym = planned.every(({ stage }) => stage.symmetric && !hasZeroPoints(stage.fallback));
      return storedBytes((name, t) => toAutoRoundTensors(name, t, { packing: packing ?? packingFor(sym) }), site);
    },
    begin: (facts) =>
      surveySchemes(
        facts,
        (name, t) => toAutoRoundTensors(name, t, { packing: packing ?? 'gptq-v2' }),
        (schemes, unquantized) => {
          const sym = schemes.every((s) => s.symmetric);
          const stored = packing ?? packingFor(sym);
          const { bits, groupSize } = mostCommon(schemes);
          const others = schemes.filter((s) => s.bits !== bits || s.groupSize !== groupSize || s.module === 'lm_head');
          const layers = new Map([
            ...unquantized.map((l) => [l, null] as const),
            ...others.map((s) => [s.module, { bits: s.bits, groupSize: s.groupSize, sym }] as const),
          ]);
          return {
            quantization: autoRoundConfig({ packing: stored, bits, groupSize, sym, layers }),
            files: {},
            notes: [],
            pack: (name, t) => toAutoRoundTensors(name, asAffine(t), { packing: stored }),
          };
        },
      ),
  };
}

const packingFor = (sym: boolean): AutoRoundPacking => (sym ? 'gptq-v1' : 'gptq-v2');
