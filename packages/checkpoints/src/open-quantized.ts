/**
 * From a Hugging Face checkpoint and its configuration to one that computes, whatever it was quantized with.
 * @module
 */
import { fail } from './_checks.js';
import { type Fields, field, fieldsOf, textField } from './_object.js';
import { hasPackedLinears } from './_packed-linears.js';
import type { Checkpoint, SafetensorsFile } from './api.js';

const OP = 'openQuantized';

export interface OpenQuantizedOpts {
  /** Contents of quantize_config.json (AutoGPTQ) or quant_config.json (AutoAWQ); counts where config.json says nothing. */
  quantizeConfig?: unknown;
}

/**
 * The checkpoint read as its configuration says: GPTQ, AWQ, compressed-tensors, bitsandbytes, HQQ, AutoRound, or as it is when it is not
 * quantized (or is GGUF or lmq's own, which say so themselves).
 * @param checkpoint as `openCheckpoint` gives it; closed by the result's `close`
 * @param config contents of config.json
 * @throws LmqError `model/unsupported` naming another method, `model/config` when weights are quantized and nothing says how; else as the
 * function that opens the method
 */
export async function openQuantized(
  checkpoint: Checkpoint,
  config: unknown,
  { quantizeConfig }: OpenQuantizedOpts = {},
): Promise<Checkpoint> {
  if (checkpoint.format !== 'safetensors') return checkpoint;
  const model = fieldsOf(config) ?? {};
  const inside = field(model, 'quantization_config') ?? field(model, 'compression_config'); // compressed-tensors of 2024
  const given = inside ?? quantizeConfig ?? undefined;
  if (given === undefined) {
    if (!hasPackedLinears(checkpoint.tensors)) return checkpoint;
    return fail('model/config', 'the weights are quantized and config.json does not say how', {
      op: OP,
      file: 'config.json',
      expected: 'quantization_config',
      hint: 'Older folders have a quantize_config.json or quant_config.json beside the weights: get it too.',
    });
  }
  const fields = fieldsOf(given);
  const method = fields && methodOf(fields);
  const file = inside !== undefined ? 'config.json' : method === 'awq' ? 'quant_config.json' : 'quantize_config.json';
  const where = { op: OP, file };
  if (!fields) return fail('model/config', 'the quantization has no configuration', { ...where, expected: 'an object', found: given });
  const opener = OPENERS.get(method ?? '');
  if (!opener)
    return fail('model/unsupported', 'the model is quantized by a method that lmq does not read', {
      ...where,
      expected: `quant_method ${[...OPENERS.keys()].join(', ')}`,
      found: method ?? 'nothing',
      hint: 'Start from the original weights.',
    });
  if (!isSafetensors(checkpoint))
    return fail('argument/value', 'the checkpoint gives no stored bytes', {
      op: OP,
      hint: 'Wrap it, e.g. with `guardNonFinite`, after this.',
    });
  const open = await opener();
  return open(checkpoint, fields, { file });
}

type Open = (physical: SafetensorsFile, config: Fields, opts: { file: string }) => Checkpoint | Promise<Checkpoint>;

const autoRound = async () => (await import('./auto-round.js')).openAutoRound;

/** By `quant_method`; the code of a method is loaded when a checkpoint asks for it. */
const OPENERS = /* @__PURE__ */ new Map<string, () => Promise<Open>>([
  ['gptq', async () => (await import('./gptq.js')).openGptq],
  ['awq', async () => (await import('./awq.js')).openAwq],
  ['bitsandbytes', async () => (await import('./bitsandbytes.js')).openBitsandbytes],
  ['hqq', async () => (await import('./hqq.js')).openHqq],
  ['auto-round', autoRound],
  ['intel/auto-round', autoRound], // its first versions
  ['compressed-tensors', async () => (await import('./compressed-tensors.js')).openCompressedTensors],
]);

const isSafetensors = (c: Checkpoint): c is SafetensorsFile => typeof (c as Partial<SafetensorsFile>).readBytes === 'function';

/**
 * Files of the tools' own, beside config.json, do not always name the method: only AutoAWQ has `w_bit`, and AutoGPTQ `desc_act`. Nor do
 * those of the first versions of bitsandbytes in config.json.
 */
function methodOf(of: Fields): string | undefined {
  const named = textField(of, 'quant_method') ?? textField(of, 'method');
  if (named !== undefined) return named.toLowerCase();
  if (Object.hasOwn(of, 'w_bit')) return 'awq';
  if (field(of, 'load_in_4bit') === true || field(of, 'load_in_8bit') === true) return 'bitsandbytes';
  return Object.hasOwn(of, 'desc_act') ? 'gptq' : undefined;
}
