/**
 * Folders as Hugging Face writes them of models that bitsandbytes quantized: NF4 and FP4, and the 8-bit rows of LLM.int8().
 * @module
 */
import { type BitsandbytesConfigOpts, bitsandbytesConfig, toBitsandbytesTensors } from '@lmq/checkpoints';
import { LmqError } from '@lmq/tensor';
import { ownGridBytes, ownGridOf } from '../_own-grids.js';
import type { Stage } from '../api.js';
import type { FolderFormat } from './format.js';
import { checkOneScheme } from './one-scheme.js';
import { checkAffine } from './rules.js';
import { storedBytes } from './sizes.js';

export const bitsandbytesFolder: FolderFormat = {
  saysInput: (input) => input.kind === 'llm-int8' && input.threshold === 6, // which readers take where no number with a point is given
  check: (planned) => {
    if (planned.some(({ stage }) => ownGridOf(stage) !== undefined))
      return checkOneScheme('bitsandbytes', ['nf4', 'fp4'], planned, table4Scheme);
    checkAffine(
      {
        target: 'bitsandbytes',
        bits: [8],
        out: 1,
        inputs: 1,
        actOrder: true, // of a whole row
        mixed: true,
        head: false,
        asymmetric: false,
        grouped: false,
      },
      planned,
    );
  },
  bytes(site, dtype) {
    const { out, in: width, stage } = site;
    if (ownGridOf(stage) === undefined) return storedBytes((name, t) => toBitsandbytesTensors(name, t, { dtype }), site);
    const rows = out * Math.ceil(width / 2); // ours begin on bytes, theirs do not
    return ownGridBytes(out, width, stage) - rows + Math.ceil((out * width) / 2) + STATE_BYTES;
  },
  begin({ linears, dtype }) {
    const quantized = new Set<string>();
    let type: BitsandbytesConfigOpts['type'] | undefined;
    let doubleQuant = false;
    return {
      add(name, t) {
        const refuse = (what: string, expected: unknown, found: unknown): never => {
          throw new LmqError('export/unsupported', what, { op: 'export', tensor: name, expected, found });
        };
        const stored = toBitsandbytesTensors(name, t, { dtype }).map((part) => part.name);
        const own = stored.some((part) => part.endsWith('__nf4')) ? 'nf4' : stored.some((part) => part.endsWith('__fp4')) ? 'fp4' : 'int8';
        if (name === 'lm_head.weight') refuse('runtimes leave the output head as it is', 'plain floats', own);
        if (own !== (type ?? own)) refuse('a model has one kind of weights in bitsandbytes', type, own);
        type = own;
        doubleQuant ||= stored.some((part) => part.endsWith('nested_absmax'));
        quantized.add(name.slice(0, -'.weight'.length));
      },
      finish() {
        // runtimes take the head for quantized where other modules are named and it is not
        const skipModules = [...new Set([...linears, 'lm_head'])].filter((l) => !quantized.has(l));
        return {
          quantization: bitsandbytesConfig({ type: type ?? 'int8', doubleQuant, computeDtype: dtype, skipModules }),
          files: {},
          notes: [],
          pack: (name, t) => toBitsandbytesTensors(name, t, { dtype }),
        };
      },
    };
  },
};

/** Weights per scale that bitsandbytes has kernels for. */
const BLOCKS = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/** The JSON beside each 4-bit weight, about: how many digits its offset has only the weights show. */
const STATE_BYTES = 90;

function table4Scheme(stage: Stage): { wrong: string[]; scheme: string } {
  const { groupSize, doubleQuant } = stage;
  return {
    wrong: BLOCKS.includes(groupSize) ? [] : [`blocks of ${groupSize}`],
    scheme: `${ownGridOf(stage)}${doubleQuant ? ' with scales quantized twice' : ''}`,
  };
}
