/**
 * Folders of HQQ, as transformers writes them.
 * @module
 */
import { hqqConfig, toHqqTensors } from '@lmq/checkpoints';
import { HQQ_BITS } from '@lmq/formats';
import type { Affine, CompressedTensor } from '@lmq/tensor';
import { asAffine, mostCommon, type Scheme, schemeNotes, schemeOf } from './affine.js';
import type { FolderFormat } from './format.js';
import { checkAffine } from './rules.js';
import { storedBytes } from './sizes.js';

export const hqqFolder: FolderFormat = {
  check: (planned) =>
    checkAffine(
      // 8 outputs fill words of every width
      {
        target: 'hqq',
        bits: HQQ_BITS,
        out: 8,
        inputs: 1,
        actOrder: false,
        mixed: true,
        head: true,
        asymmetric: true,
        fp32: true,
        own: 'hqq',
      },
      planned,
    ),
  bytes: (site) => storedBytes(toHqqTensors, site),
  begin({ linears, dtype }) {
    const schemes: Scheme[] = [];
    return {
      add(name, tensor) {
        const t = hqqForm(tensor);
        toHqqTensors(name, t); // refuses what cannot be stored
        schemes.push(schemeOf(name.slice(0, -'.weight'.length), t as Affine));
      },
      finish() {
        const quantized = new Set(schemes.map((s) => s.module));
        const tags = new Set([...quantized].map(tagOf));
        const plain = [...new Set([...linears, 'lm_head'])].filter((l) => !quantized.has(l));
        const common = mostCommon(schemes);
        const notes = schemeNotes(schemes, dtype, (module) => linears.includes(module));
        if (plain.some((l) => tags.has(tagOf(l))) || schemes.some((s) => s.bits !== common.bits || s.groupSize !== common.groupSize))
          notes.push('linears differ: the tensors of each say how it is stored, which runtimes that go by config.json alone do not see');
        return {
          quantization: hqqConfig({ ...common, skipModules: [...new Set(plain.map(tagOf))].filter((tag) => !tags.has(tag)) }),
          files: {},
          notes,
          pack: (name, t) => toHqqTensors(name, hqqForm(t)),
        };
      },
    };
  },
};

/** Blocks of GGUF as codes; float32 scales stay, beside which zero points are float32 too. */
const hqqForm = (t: CompressedTensor) => (t.kind === 'blocks' ? asAffine(t) : t);

/** How HQQ names a linear of any layer (models/base.py): without numbers, `model` and `layers`. */
const tagOf = (module: string) =>
  module
    .split('.')
    .filter((part) => part !== 'model' && part !== 'layers' && !/^\d+$/.test(part))
    .join('.');
