/**
 * The configuration of a GPTQ checkpoint, as far as it says how to read one. Fields: AutoGPTQ quantization/config.py, GPTQModel
 * quantization/config.py.
 * @module
 */
import type { GptqVersion } from '@lmq/formats';
import { fail } from './_checks.js';
import type { GroupSizes } from './_group-index.js';
import { type Fields, field, fieldsOf } from './_object.js';
import { configFields, configFlag, configInteger, configText } from './_quant-config.js';

export const GPTQ_PARTS = ['qweight', 'qzeros', 'scales', 'g_idx'] as const;
export const GPTQ_BITS: readonly number[] = [2, 3, 4, 8];

export interface GptqConfig extends GroupSizes {
  /** Bits that a linear may have: one number, but for rules. */
  bits: Set<number>;
  groupSizes: Set<number>;
  /** `undefined` when the configuration does not say, or rules change it. */
  sym?: boolean;
  /** Act-order; as `sym`. */
  descAct?: boolean;
  version: GptqVersion;
}

/** @throws LmqError `model/config`, `model/unsupported` */
export function readGptqConfig(config: unknown, op: string, file: string): GptqConfig {
  const where = { op, file };
  const fields = configFields(config, where);
  const method = configText(fields, ['quant_method', 'method'], where) ?? 'gptq';
  if (method !== 'gptq')
    fail('model/config', 'the configuration is not one of GPTQ', { ...where, expected: 'quant_method gptq', found: method });
  const packed = configText(fields, ['pack_dtype'], where) ?? 'int32';
  if (packed !== 'int32')
    fail('model/unsupported', 'codes are not packed into int32', { ...where, expected: 'pack_dtype int32', found: packed });
  if (configFlag(fields, 'is_marlin_format', where))
    fail('model/unsupported', 'the checkpoint is in the layout of Marlin', { ...where, hint: REPACK });
  const stored = configText(fields, ['checkpoint_format', 'format'], where) ?? 'gptq';
  if (stored !== 'gptq' && stored !== 'gptq_v2')
    fail('model/unsupported', 'a checkpoint format that lmq does not read', {
      ...where,
      expected: 'gptq or gptq_v2',
      found: stored,
      hint: REPACK,
    });
  const sym = configFlag(fields, 'sym', where);
  const descAct = configFlag(fields, 'desc_act', where) ?? false;
  const read: GptqConfig = {
    bits: new Set([bitsOf(fields, where)!]),
    groupSizes: new Set([groupSizeOf(fields, where)!]),
    ...(sym !== undefined && { sym }),
    descAct,
    version: stored === 'gptq' ? 'v1' : 'v2',
    file,
  };
  addDynamic(fields, read, where);
  return read;
}

const REPACK = 'Get the checkpoint in the format gptq, or quantize the original weights.';

export function bitsOf(of: Fields, where: { op: string; file: string }, optional = false): number | undefined {
  if (optional && field(of, 'bits') === undefined) return undefined;
  const bits = configInteger(of, ['bits'], where);
  if (GPTQ_BITS.includes(bits)) return bits;
  const known = bits >= 5 && bits <= 7;
  const what = known ? 'codes of 5 to 7 bits have a layout of their own, which lmq does not read' : 'bits out of range';
  return fail(known ? 'model/unsupported' : 'model/config', what, { ...where, expected: '2, 3, 4 or 8', found: bits });
}

export function groupSizeOf(of: Fields, where: { op: string; file: string }, optional = false): number | undefined {
  if (optional && field(of, 'group_size') === undefined) return undefined;
  const size = configInteger(of, ['group_size'], where);
  if (size === -1 || size >= 1) return size;
  return fail('model/config', 'group_size out of range', { ...where, expected: '-1 for a whole row, or at least 1', found: size });
}

/**
 * Rules by regular expressions on module names. An expression of a foreign file is never run: shapes say what a linear is, and rules only
 * what it may be. Rules that begin with `-:` name linears that are not quantized.
 */
function addDynamic(of: Fields, into: GptqConfig, where: { op: string; file: string }): void {
  const value = field(of, 'dynamic');
  if (value === undefined) return;
  const rules = fieldsOf(value) ?? fail('model/config', 'dynamic is not an object', { ...where, found: value });
  for (const [rule, override] of Object.entries(rules)) {
    if (rule.startsWith('-:')) continue;
    const fields = fieldsOf(override) ?? fail('model/config', 'a rule of dynamic is not an object', { ...where, found: rule });
    for (const key of ['quant_method', 'method', 'checkpoint_format', 'format', 'pack_dtype'])
      if (field(fields, key) !== undefined)
        fail('model/unsupported', 'a rule of dynamic changes how codes are stored', { ...where, found: `${key} in ${rule}` });
    addRule(fields, into, where);
    const descAct = configFlag(fields, 'desc_act', where);
    if (descAct !== undefined && descAct !== into.descAct) into.descAct = undefined;
  }
}

/** What linears may be, widened by a rule for some of them. */
export function addRule(rule: Fields, into: Pick<GptqConfig, 'bits' | 'groupSizes' | 'sym'>, where: { op: string; file: string }): void {
  const bits = bitsOf(rule, where, true);
  if (bits !== undefined) into.bits.add(bits);
  const size = groupSizeOf(rule, where, true);
  if (size !== undefined) into.groupSizes.add(size);
  const sym = configFlag(rule, 'sym', where);
  if (sym !== undefined && sym !== into.sym) into.sym = undefined;
}
