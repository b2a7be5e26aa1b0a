/**
 * Folders as GPTQModel and AutoGPTQ write them.
 * @module
 */
import { gptqConfig, toGptqTensors } from '@lmq/checkpoints';
import type { GptqVersion } from '@lmq/formats';
import type { Affine } from '@lmq/tensor';
import { asAffine, type Scheme, schemeNotes, schemeOf } from './affine.js';
import type { FolderFormat } from './format.js';
import { checkAffine } from './rules.js';

const BITS = [2, 3, 4, 8];

/**
 * @param least the version to write. Version 1, which every runtime reads, gives way to version 2 where it cannot hold a zero point.
 */
export function gptqFolder(target: string, least: GptqVersion): FolderFormat {
  return {
    check: (planned) => checkAffine({ target, bits: BITS, out: 32, inputs: 32, actOrder: true, mixed: true, head: true }, planned),
    bytes({ out, in: inputs, stage }) {
      const groups = stage.groupSize < 0 ? 1 : Math.ceil(inputs / stage.groupSize);
      return (out * inputs * stage.bits) / 8 + groups * (2 * out + (out * stage.bits) / 8) + 4 * inputs;
    },
    begin({ linears, dtype }) {
      const schemes: Scheme[] = [];
      let version = least;
      let without: string | undefined;
      return {
        add(name, tensor) {
          const t = asAffine(tensor);
          toGptqTensors(name, t, { version: 'v2' }); // refuses what neither version holds
          const { hasZero, ...scheme } = schemeOf(name.slice(0, -'.weight'.length), t as Affine);
          if (hasZero && version === 'v1') {
            version = 'v2';
            without = name;
          }
          schemes.push(scheme);
        },
        finish() {
          const notes = without ? [`written as gptq_v2: version 1 cannot hold a zero point of 0, as in ${without}`] : [];
          const plain = linears.filter((l) => l !== 'lm_head' && !schemes.some((s) => s.module === l));
          const { bits, groupSize } = mostCommon(schemes);
          const overrides = schemes.filter((s) => s.bits !== bits || s.groupSize !== groupSize);
          const quantization = gptqConfig({
            bits,
            groupSize,
            sym: schemes.every((s) => s.symmetric),
            descAct: schemes.some((s) => s.actOrder),
            version,
            lmHead: schemes.some((s) => s.module === 'lm_head'),
            overrides: overrides.map(({ module, bits, groupSize }) => ({ module, bits, groupSize })),
            modulesToNotConvert: plain,
          });
          if (overrides.length || plain.length)
            notes.push('linears differ: rules of "dynamic" say how, which GPTQModel and vLLM follow and older runtimes do not');
          notes.push(...schemeNotes(schemes, dtype, (module) => linears.includes(module)));
          return {
            quantization,
            files: { 'quantize_config.json': quantization },
            notes,
            pack: (name, t) => toGptqTensors(name, asAffine(t), { version }),
          };
        },
      };
    },
  };
}

/** Bits and groups that most linears have. */
function mostCommon(schemes: readonly Scheme[]): Pick<Scheme, 'bits' | 'groupSize'> {
  const count = new Map<string, number>();
  let best = schemes[0] ?? { bits: 4, groupSize: -1 };
  let most = 0;
  for (const s of schemes) {
    const key = `${s.bits} ${s.groupSize}`;
    const n = (count.get(key) ?? 0) + 1;
    count.set(key, n);
    if (n > most) [most, best] = [n, s];
  }
  return best;
}
