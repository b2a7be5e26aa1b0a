import { decode, encodeFloats } from '@lmq/formats';
import type { FloatFormat } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { toCompressedTensors } from '../src/compressed-tensors-write.js';
import { openQuantized } from '../src/open-quantized.js';
import { fnv, goldenLinears } from './_golden-linears.js';
import { type Stored, safetensorsOf, storedOf, under } from './_quantized.js';

const L = 'model.layers.0.mlp.up_proj';
const W = `${L}.weight`;

interface Case {
  format: string;
  /** Written by 0.9.4, which packs 3, 5, 6 and 7 bits in another way. */
  old: boolean;
  out: number;
  in: number;
  config: Record<string, unknown> & { config_groups: { group_0: { weights: Record<string, unknown> } } };
  /** dtype of the decompressed weights, and the FNV-1a of their bits. */
  dtype: string;
  weight: string;
}

const cases = goldenLinears<Case>('compressed-tensors');
const FLOATS: Record<string, FloatFormat> = { F16: 'fp16', BF16: 'bf16', F32: 'fp32' };
const argsOf = (c: Case) => c.config.config_groups.group_0.weights;
const titled = cases.map((c) => {
  const { num_bits, type, strategy, group_size, symmetric, actorder } = argsOf(c);
  const more = `${group_size ? ` ${group_size}` : ''}${symmetric ? '' : ' asymmetric'}${actorder ? ' act-order' : ''}`;
  return { ...c, title: `${c.format} ${type}${num_bits} per ${strategy}${more} [${c.out}, ${c.in}]${c.old ? ', 0.9.4' : ''}` };
});

const open = async (tensors: Record<string, Stored>, config: unknown) =>
  openQuantized(await safetensorsOf(tensors), { quantization_config: config });

describe('golden checkpoints', () => {
  it.each(titled)('$title: the weights of the package, and its bytes again', async (c) => {
    const norm: Stored = { dtype: 'F16', shape: [4], data: Uint8Array.of(0, 60, 0, 64, 0, 66, 0, 68) };
    const model = await open({ ...under(L, c.tensors), 'model.norm.weight': norm }, c.config);
    expect(model.format).toBe('compressed-tensors');
    expect([...model.tensors.keys()].sort()).toEqual([W, 'model.norm.weight']);
    const info = model.tensors.get(W)!;
    expect(info.shape).toEqual([c.out, c.in]);
    expect(info.bytes).toBe(Object.values(c.tensors).reduce((n, t) => n + t.data.length, 0));
    const t = await model.read(W);
    expect(fnv(encodeFloats(FLOATS[c.dtype]!, decode(t).data))).toBe(c.weight);
    const format = t.kind === 'affine' && c.format === 'naive-quantized' ? 'int-quantized' : undefined;
    const again = await storedOf(
      toCompressedTensors(W, t, {
        ...((format ?? (t.kind === 'affine' && { format: c.format })) && { format: (format ?? c.format) as 'int-quantized' }),
        packing: c.old ? 'whole' : 'stream',
      }),
    );
    expect(again).toEqual(under(L, c.tensors));
    await model.close();
  });
});
