/**
 * Folders as Transformers writes them with HQQ.
 * @module
 */
import { hqqConfig, toHqqTensors } from '@lmq/checkpoints';
import { HQQ_BITS } from '@lmq/formats';
import { type Affine, LmqError } from '@lmq/tensor';
import { ownGridBytes } from '../_own-grids.js';
import type { FolderFormat } from './format.js';
import { checkOneScheme } from './one-scheme.js';

export const hqqFolder: FolderFormat = {
  check: (planned) =>
    checkOneScheme('hqq', ['hqq'], planned, ({ bits, groupSize }) => ({
      wrong: HQQ_BITS.includes(bits) ? [] : [`bits ${bits}`],
      scheme: `${bits} bits, groupSize ${groupSize}`,
    })),
  bytes: ({ out, in: width, stage }) => ownGridBytes(out, width, stage) + FACT_BYTES,
  begin({ linears }) {
    const modules: string[] = [];
    let scheme: { bits: number; groupSize: number } | undefined;
    return {
      add(name, t) {
        const refuse = (what: string, expected: unknown, found: unknown): never => {
          throw new LmqError('export/unsupported', what, { op: 'export', tensor: name, expected, found, hint: 'lmq folders can hold it.' });
        };
        toHqqTensors(name, t);
        const module = name.slice(0, -'.weight'.length);
        const { bits, groupSize, shape } = t as Affine;
        if (module === 'lm_head') refuse('runtimes leave the output head as it is', 'plain floats', `${bits} bits`);
        const own = { bits, groupSize: groupSize >= shape[1] ? -1 : groupSize };
        if (scheme && (scheme.bits !== own.bits || scheme.groupSize !== own.groupSize))
          refuse('HQQ has one scheme for all linears', nameOf(scheme), nameOf(own));
        scheme ??= own;
        modules.push(module);
      },
      finish: () => ({
        quantization: hqqConfig({
          ...(scheme ?? { bits: 4, groupSize: 64 }),
          skipModules: [...new Set([...linears.filter((l) => !modules.includes(l)), 'lm_head'])],
        }),
        files: {},
        notes: [],
        pack: toHqqTensors,
      }),
    };
  },
};

/** What says how to read a linear, about. */
const FACT_BYTES = 120;

const nameOf = ({ bits, groupSize }: { bits: number; groupSize: number }) => `${bits} bits, groupSize ${groupSize}`;
