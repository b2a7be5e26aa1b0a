/**
 * Reading AutoRound checkpoints: the tensors of GPTQ or AWQ, with a configuration of their own. Source: AutoRound 0.16
 * export/export_to_autoround/export.py, inference/convert_model.py.
 * @module
 */
import type { GptqVersion } from '@lmq/formats';
import { AWQ_PARTS, planAwq } from './_awq-linear.js';
import { fail } from './_checks.js';
import { addRule, bitsOf, GPTQ_PARTS, type GptqConfig, groupSizeOf } from './_gptq-config.js';
import { planGptq } from './_gptq-linear.js';
import { type Fields, field, fieldsOf } from './_object.js';
import { openPacked } from './_packed-linears.js';
import { configFields, configFlag, configInteger, configText } from './_quant-config.js';
import type { Checkpoint, SafetensorsFile } from './api.js';

const OP = 'openAutoRound';

/** How linears are stored, by `packing_format`. Version 1 of zero points is GPTQ's own, version 2 that of GPTQModel and of AutoRound. */
const PACKINGS: ReadonlyMap<string, GptqVersion | 'awq'> = new Map([
  ['auto_round:auto_gptq', 'v1'],
  ['auto_round:gptq', 'v1'],
  ['auto_round:gptqmodel', 'v2'],
  ['auto_round', 'v2'],
  ['auto_round:auto_awq', 'awq'],
  ['auto_round:awq', 'awq'],
]);

export interface OpenAutoRoundOpts {
  /** Names the configuration in errors. Default `config.json`. */
  file?: string;
}

/**
 * Opens an AutoRound checkpoint of integer weights: `<module>.weight` is `affine` [out, in], everything else as it is.
 * @param physical one file or all shards; closed by the result's `close`
 * @param config `quantization_config` of config.json. Rules of `extra_config` only widen what a linear may be: bits and group size follow
 * from its shapes
 * @throws LmqError `model/unsupported` for weights that are no integers, quantized activations, rotations and packings that are not read;
 * else as `openGptq`
 */
export function openAutoRound(physical: SafetensorsFile, config: unknown, { file = 'config.json' }: OpenAutoRoundOpts = {}): Checkpoint {
  const where = { op: OP, file };
  const fields = configFields(config, where);
  const method = configText(fields, ['quant_method'], where) ?? 'auto-round';
  if (!method.includes('auto-round'))
    fail('model/config', 'the configuration is not one of AutoRound', { ...where, expected: 'quant_method auto-round', found: method });
  const named = configText(fields, ['packing_format'], where) ?? 'auto_round:gptq';
  const packing = PACKINGS.get(named);
  if (!packing)
    return fail('model/unsupported', 'a packing format that lmq does not read', {
      ...where,
      expected: [...PACKINGS.keys()].join(', '),
      found: named,
      hint: 'Get the checkpoint in one of these, or quantize the original weights.',
    });
  checkScheme(fields, where);
  const rotation = field(fields, 'rotation_config');
  if (rotation !== undefined)
    fail('model/unsupported', 'the weights are rotated, and inputs would have to be', { ...where, found: 'rotation_config' });
  const sym = configFlag(fields, 'sym', where);
  const read: GptqConfig = {
    bits: new Set([bitsOf(fields, where)!]),
    groupSizes: new Set([groupSizeOf(fields, where)!]),
    ...(sym !== undefined && { sym }),
    descAct: false,
    version: packing === 'v1' ? 'v1' : 'v2',
    file,
  };
  addExtra(fields, read, where);
  if (packing !== 'awq') return openPacked(physical, { format: 'auto-round', op: OP, parts: GPTQ_PARTS }, (l) => planGptq(l, read));
  if (!read.bits.has(4)) fail('model/unsupported', 'AWQ has 4 bits', { ...where, expected: 4, found: [...read.bits].join(', ') });
  const awq = { groupSizes: read.groupSizes, zeroPoint: read.sym !== true, file };
  return openPacked(physical, { format: 'auto-round', op: OP, parts: AWQ_PARTS }, (l) => planAwq(l, awq));
}

/** Overrides by layers' names or regular expressions on them, which are not run (see `addDynamic` of GPTQ). */
function addExtra(of: Fields, into: GptqConfig, where: { op: string; file: string }): void {
  const value = field(of, 'extra_config');
  if (value === undefined) return;
  const rules = fieldsOf(value) ?? fail('model/config', 'extra_config is not an object', { ...where, found: value });
  for (const [layer, override] of Object.entries(rules)) {
    const rule = fieldsOf(override) ?? fail('model/config', 'a rule of extra_config is not an object', { ...where, found: layer });
    if (field(rule, 'bits') !== undefined && configInteger(rule, ['bits'], where) >= 16) continue; // not quantized
    checkScheme(rule, where);
    addRule(rule, into, where);
  }
}

/** @throws LmqError `model/unsupported` for weights that are no integers, and for quantized activations */
function checkScheme(of: Fields, where: { op: string; file: string }): void {
  const type = configText(of, ['data_type'], where) ?? 'int';
  if (!['int', 'int_sym', 'int_asym'].includes(type))
    fail('model/unsupported', 'the weights are no integers', { ...where, expected: 'data_type int', found: type });
  const activations = field(of, 'act_bits') === undefined ? 16 : configInteger(of, ['act_bits'], where);
  if (activations < 16) fail('model/unsupported', 'activations are quantized', { ...where, expected: 'act_bits 16', found: activations });
}
