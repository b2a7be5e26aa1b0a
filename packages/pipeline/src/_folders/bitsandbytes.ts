/**
 * Folders as Transformers writes them with bitsandbytes: NF4 or FP4.
 * @module
 */
import { bitsandbytesConfig, toBitsandbytesTensors } from '@lmq/checkpoints';
import { LmqError } from '@lmq/tensor';
import { ownGridBytes } from '../_own-grids.js';
import type { FolderFormat } from './format.js';
import { checkOneScheme } from './one-scheme.js';

/** Weights per scale that bitsandbytes has kernels for. */
const BLOCKS = [32, 64, 128, 256, 512, 1024, 2048, 4096];

export const bitsandbytesFolder: FolderFormat = {
  check: (planned) =>
    checkOneScheme('bitsandbytes', ['nf4', 'fp4'], planned, ({ method, groupSize, doubleQuant }) => ({
      wrong: BLOCKS.includes(groupSize) ? [] : [`blocks of ${groupSize}`],
      scheme: `${method}${doubleQuant ? ' with scales quantized twice' : ''}`,
    })),
  bytes({ out, in: width, stage }) {
    return ownGridBytes(out, width, stage) - out * Math.ceil(width / 2) + Math.ceil((out * width) / 2) + STATE_BYTES;
  },
  begin({ linears, dtype }) {
    const modules: string[] = [];
    let scheme: BnbScheme | undefined;
    return {
      add(name, t) {
        const refuse = (what: string, expected: unknown, found: unknown): never => {
          throw new LmqError('export/unsupported', what, { op: 'export', tensor: name, expected, found, hint: 'lmq folders can hold it.' });
        };
        const stored = toBitsandbytesTensors(name, t, { dtype });
        const module = name.slice(0, -'.weight'.length);
        if (module === 'lm_head') refuse('runtimes leave the output head as it is', 'plain floats', 'codes');
        const type = (['nf4', 'fp4'] as const).find((n) => stored.some((s) => s.name.endsWith(`__${n}`))) ?? 'int8';
        const own: BnbScheme = { type, doubleQuant: stored.some((s) => s.name.endsWith('.nested_absmax')) };
        if (scheme && (scheme.type !== own.type || scheme.doubleQuant !== own.doubleQuant))
          refuse('bitsandbytes has one scheme for all linears', nameOf(scheme), nameOf(own));
        scheme ??= own;
        modules.push(module);
      },
      finish() {
        const plain = linears.filter((l) => !modules.includes(l));
        return {
          quantization: bitsandbytesConfig({ ...(scheme ?? { type: 'nf4' }), computeDtype: dtype, skipModules: plain }),
          files: {},
          notes: [],
          pack: (name, t) => toBitsandbytesTensors(name, t, { dtype }),
        };
      },
    };
  },
};

/** The JSON beside each weight, about. */
const STATE_BYTES = 90;

interface BnbScheme {
  type: 'nf4' | 'fp4' | 'int8';
  doubleQuant: boolean;
}

const nameOf = (s: BnbScheme) => `${s.type}${s.doubleQuant ? ', scales quantized twice' : ''}`;
