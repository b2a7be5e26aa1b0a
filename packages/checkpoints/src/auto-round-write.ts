/**
 * Writing AutoRound checkpoints: an `affine` tensor as the tensors of a linear, those of GPTQ or AWQ, and the configuration that goes beside
 * them.
 * @module
 */
import type { GptqVersion } from '@lmq/formats';
import { type CompressedTensor, checkInteger, checkOneOf, LmqError } from '@lmq/tensor';
import { refusal } from './_affine-export.js';
import type { TensorToWrite } from './api.js';
import { toAwqTensors } from './awq-write.js';
import { toGptqTensors } from './gptq-write.js';

/** How linears are stored: as GPTQ with zero points of version 1 or 2, or as AWQ. */
export type AutoRoundPacking = 'gptq-v1' | 'gptq-v2' | 'awq';

const PACKINGS: Readonly<Record<AutoRoundPacking, string>> = {
  'gptq-v1': 'auto_round:auto_gptq',
  'gptq-v2': 'auto_round:gptqmodel',
  awq: 'auto_round:auto_awq',
};

const packingOf = (packing: AutoRoundPacking, op: string) =>
  checkOneOf(packing, 'packing', Object.keys(PACKINGS) as AutoRoundPacking[], op);

export interface AutoRoundTensorsOpts {
  packing: AutoRoundPacking;
}

/**
 * The tensors of the weight `<module>.weight`, codes and scales as they are. A bias is written beside them like any other tensor.
 * @throws LmqError `export/unsupported` for act-order, else as `toGptqTensors` and `toAwqTensors`
 */
export function toAutoRoundTensors(name: string, tensor: CompressedTensor, opts: AutoRoundTensorsOpts): TensorToWrite[] {
  const op = 'toAutoRoundTensors';
  const packing = packingOf(opts.packing, op);
  if (packing === 'awq') return toAwqTensors(name, tensor);
  if (tensor.kind === 'affine' && tensor.groupIndex)
    refusal(name, op)(
      'act-order cannot be stored',
      'columns grouped in order',
      'a groupIndex',
      'Quantize without act-order, or write GPTQ.',
    );
  const tensors = toGptqTensors(name, tensor, { version: packing.slice(-2) as GptqVersion });
  return packing === 'gptq-v1' ? tensors.filter((t) => !t.name.endsWith('.g_idx')) : tensors; // AutoRound has it for GPTQModel only
}

/** How a linear is quantized. */
export interface AutoRoundScheme {
  bits: number;
  /** Input columns that share a scale; -1 for a whole row. */
  groupSize: number;
  /** True when all zero points are in the middle. Runtimes do not look at them then. */
  sym: boolean;
}

export interface AutoRoundConfigOpts extends AutoRoundScheme {
  packing: AutoRoundPacking;
  /** Modules that differ, by their full names; `null` where weights are not quantized. Default none: then only lm_head is not. */
  layers?: ReadonlyMap<string, Partial<AutoRoundScheme> | null>;
}

/**
 * The configuration of an AutoRound checkpoint: `quantization_config` of config.json.
 * @throws LmqError `argument/option`, `argument/value` for what cannot be a module's name: AutoRound reads others as regular expressions
 */
export function autoRoundConfig(opts: AutoRoundConfigOpts): Record<string, unknown> {
  const op = 'autoRoundConfig';
  const packing = packingOf(opts.packing, op);
  const scheme = ({ bits, groupSize, sym }: Partial<AutoRoundScheme>) => {
    if (bits !== undefined) checkOneOf(String(bits), 'bits', packing === 'awq' ? ['4'] : ['2', '3', '4', '8'], op);
    if (groupSize !== undefined && groupSize !== -1) checkInteger(groupSize, 'groupSize', 1, 2 ** 32, op);
    return {
      ...(bits !== undefined && { bits }),
      ...(groupSize !== undefined && { group_size: groupSize }),
      ...(sym !== undefined && { sym }),
    };
  };
  const extra = [...(opts.layers ?? [])].map(([layer, own]) => {
    if (!/^[\w.-]+$/.test(layer))
      throw new LmqError('argument/value', 'not the name of a module', { op, expected: 'letters, digits, _, - and .', found: layer });
    return [layer, own ? scheme(own) : { bits: 16 }];
  });
  return {
    quant_method: 'auto-round',
    packing_format: PACKINGS[packing],
    data_type: 'int',
    ...scheme(opts),
    ...(extra.length > 0 && { extra_config: Object.fromEntries(extra) }),
  };
}
