/**
 * Plain Hugging Face folders: every weight decoded to the number format of the model.
 * @module
 */
import { toSafetensors } from '@lmq/checkpoints';
import { decode, encodeFloats } from '@lmq/formats';
import { type CompressedTensor, type Dense, type FloatFormat, LmqError } from '@lmq/tensor';
import type { FolderFormat } from './format.js';

const BYTES = { fp32: 4, fp16: 2, bf16: 2 };

export const safetensorsFolder: FolderFormat = {
  check: () => {},
  bytes: ({ out, in: inputs }, dtype) => out * inputs * BYTES[dtype],
  begin({ dtype }) {
    let decoded = 0;
    return {
      add(name, t) {
        toDense(name, t, dtype); // a weight may be too large
        decoded++;
      },
      finish: () => ({
        files: {},
        notes: decoded ? [`${decoded} quantized weights are decoded and stored as ${dtype}`] : [],
        pack: (name, t) => [toSafetensors(name, toDense(name, t, dtype))],
      }),
    };
  },
};

/** Largest magnitude below which a number rounds to a finite one. */
const BOUND = { fp32: Number.POSITIVE_INFINITY, fp16: 65520, bf16: (2 - 2 ** -8) * 2 ** 127 };

/** The values, rounded to `format`. @throws LmqError `export/unsupported` for one that is too large */
export function toDense(name: string, t: CompressedTensor, format: FloatFormat): Dense {
  if (t.kind === 'dense' && t.format === format) return t;
  const { data } = decode(t);
  const values = data as Float32Array;
  for (let i = 0; i < values.length; i++) {
    if (!(Math.abs(values[i]!) >= BOUND[format]) || !Number.isFinite(values[i]!)) continue;
    throw new LmqError('export/unsupported', `a weight is too large for ${format}`, {
      op: 'export',
      tensor: name,
      expected: `magnitudes below ${BOUND[format]}`,
      found: values[i],
      hint: 'Set dtype in config.json to float32 or bfloat16.',
    });
  }
  return { kind: 'dense', shape: [...t.shape], format, data: format === 'fp32' ? values : encodeFloats(format, values) };
}
