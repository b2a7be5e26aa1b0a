/**
 * Writing AWQ checkpoints in the layout "GEMM": an `affine` tensor as the three of a linear, and the configuration that goes beside them.
 * @module
 */
import { packAwq, unpackRows, zeroPointValues } from '@lmq/formats';
import { type CompressedTensor, checkInteger } from '@lmq/tensor';
import { exportable } from './_affine-export.js';
import { bytesOf } from './_floats.js';
import type { TensorToWrite } from './api.js';

/**
 * `<module>.qweight`, `.qzeros` and `.scales` of the weight `<module>.weight`, codes and scales as they are. A bias is written beside them
 * like any other tensor.
 * @throws LmqError `export/unsupported` for what the format cannot hold: other layouts, bits other than 4, `out` that is not a multiple of
 * 8, `in` that is not one of the group size, act-order, scales that are not fp16 or bf16; `argument/*`
 */
export function toAwqTensors(name: string, tensor: CompressedTensor): TensorToWrite[] {
  const { module, t, out, inputs, groups, scales, refuse } = exportable(name, tensor, 'toAwqTensors');
  if (t.bits !== 4) refuse('codes of this width cannot be stored', '4 bits', t.bits);
  if (out % 8 !== 0) refuse('the number of outputs is not a multiple of 8', 'a multiple of 8', out, 'Leave this weight unquantized.');
  if (inputs % t.groupSize !== 0)
    refuse(
      'the inputs are not whole groups',
      `a multiple of ${t.groupSize}`,
      inputs,
      'Take a smaller group, or leave this weight unquantized.',
    );
  if (t.groupIndex)
    refuse('act-order cannot be stored', 'columns grouped in order', 'a groupIndex', 'Quantize without act-order, or write GPTQ.');
  return [
    {
      name: `${module}.qweight`,
      shape: [inputs, out / 8],
      dtype: 'I32',
      bytes: () => bytesOf(packAwq(unpackRows(t.codes, 4, out, inputs), out, inputs)),
    },
    {
      name: `${module}.qzeros`,
      shape: [groups, out / 8],
      dtype: 'I32',
      bytes: () => bytesOf(packAwq(zeroPointValues(t, 0, out * groups), out, groups)),
    },
    scales,
  ];
}

export interface AwqConfigOpts {
  /** Input columns that share a scale; -1 for a whole row. */
  groupSize: number;
  /** Modules whose weights are not quantized, besides lm_head, as full names or parts of names. Default none. */
  modulesToNotConvert?: readonly string[];
}

/**
 * The configuration of an AWQ checkpoint: `quantization_config` of config.json. It says that zero points are stored, also where all of them
 * are 8: runtimes read them only then.
 * @throws LmqError `argument/option`
 */
export function awqConfig({ groupSize, modulesToNotConvert }: AwqConfigOpts): Record<string, unknown> {
  if (groupSize !== -1) checkInteger(groupSize, 'groupSize', 1, 2 ** 32, 'awqConfig');
  return {
    quant_method: 'awq',
    bits: 4,
    group_size: groupSize,
    zero_point: true,
    version: 'gemm',
    modules_to_not_convert: modulesToNotConvert?.length ? [...modulesToNotConvert] : null,
  };
}
