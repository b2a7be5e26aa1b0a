/**
 * The configuration of AutoRound checkpoints. Their tensors are those of `toGptqTensors` or `toAwqTensors`, without act-order.
 * @module
 */
import { checkInteger, checkOneOf, LmqError } from '@lmq/tensor';

/** How a linear is quantized. */
export interface AutoRoundScheme {
  bits: number;
  /** Input columns that share a scale; -1 for a whole row. */
  groupSize: number;
  /** True when all zero points are in the middle. Runtimes do not look at them then. */
  sym: boolean;
}

export interface AutoRoundConfigOpts extends AutoRoundScheme {
  /** The tensors: GPTQ with zero points of version 1 or 2, or AWQ. */
  packing: 'gptq-v1' | 'gptq-v2' | 'awq';
  /** Modules that differ, by their full names; `null` where weights are not quantized. Default none: then only lm_head is not. */
  layers?: ReadonlyMap<string, Partial<AutoRoundScheme> | null>;
}

const PACKINGS = { 'gptq-v1': 'auto_round:auto_gptq', 'gptq-v2': 'auto_round:gptqmodel', awq: 'auto_round:auto_awq' };

/**
 * The configuration of an AutoRound checkpoint: `quantization_config` of config.json.
 * @throws LmqError `argument/option`, `argument/value` for what cannot be a module's name: AutoRound reads others as regular expressions
 */
export function autoRoundConfig(opts: AutoRoundConfigOpts): Record<string, unknown> {
  const op = 'autoRoundConfig';
  const packing = checkOneOf(opts.packing, 'packing', Object.keys(PACKINGS) as (keyof typeof PACKINGS)[], op);
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
