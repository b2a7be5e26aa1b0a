/**
 * One linear of the graph: x [tokens, in] → x W^T + bias. Quantized weights are multiplied by `MatMulNBits`; others are float32, which every
 * execution provider computes with and which holds fp16 and bf16 exactly.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { affineToMatMulNBits, decode, type MatMulNBits, rowBytes, sliceRows } from '@lmq/formats';
import { type Architecture, type Site, siteShape } from '@lmq/model';
import { type CompressedTensor, isLmqError, LmqError } from '@lmq/tensor';
import { asAffine } from '../_folders/affine.js';
import { isDense } from '../plan.js';
import { type Builder, MICROSOFT } from './_builder.js';

/** Where the weights are, and where the nodes go. */
export interface Source {
  g: Builder;
  checkpoint: Checkpoint;
  architecture: Architecture;
  /** How a linear is quantized; undefined: not at all. */
  quantization(site: Site): Promise<NBits | undefined>;
  /** A quantized linear's weight. The last one is kept: its parts are asked for one after the other. */
  packed(site: Site): Promise<MatMulNBits>;
}

/** What the graph says of a quantized weight. */
export interface NBits {
  bits: number;
  blockSize: number;
  zeroPoints: boolean;
}

/** @param planned linears by name whose quantization is still to come */
export function createSource(
  g: Builder,
  checkpoint: Checkpoint,
  architecture: Architecture,
  planned: ReadonlyMap<string, NBits> = new Map(),
): Source {
  let last: { site: Site; weight: MatMulNBits } | undefined;
  const packed = async (site: Site): Promise<MatMulNBits> => {
    if (last?.site.name !== site.name) {
      last = undefined; // before the next is read
      last = { site, weight: pack(await readWeight(checkpoint, site), site.name) };
    }
    return last.weight;
  };
  return {
    g,
    checkpoint,
    architecture,
    packed,
    async quantization(site) {
      const known = planned.get(site.name);
      if (known || isDense(checkpoint.tensors.get(site.tensor) ?? { format: '' })) return known;
      const { bits, blockSize, zeroPoints } = await packed(site);
      return { bits, blockSize, zeroPoints: zeroPoints !== undefined };
    },
  };
}

/**
 * Looks at what the checkpoint says of a tensor, since the graph is made from the configuration.
 * @throws LmqError `model/missing`, `model/config` for another shape
 */
export function checkTensor(checkpoint: Checkpoint, tensor: string, shape: readonly number[]): void {
  const info = checkpoint.tensors.get(tensor);
  const facts = { op: 'export', tensor, ...(info && { file: info.file }) };
  if (!info) throw new LmqError('model/missing', 'the checkpoint lacks a tensor', { ...facts, hint: 'Check that every file is there.' });
  if (info.shape.length === shape.length && info.shape.every((n, i) => n === shape[i])) return;
  throw new LmqError('model/config', 'the tensor does not have the shape that the configuration implies', {
    ...facts,
    expected: `[${shape.join(', ')}]`,
    found: `[${info.shape.join(', ')}]`,
    hint: 'The configuration and the weights are not of the same model.',
  });
}

async function readWeight(checkpoint: Checkpoint, { tensor, slice }: Site): Promise<CompressedTensor> {
  const t = await checkpoint.read(tensor);
  return slice ? sliceRows(t, ...slice) : t;
}

/** Adds a linear and its weight. */
export async function linear(source: Source, x: string, site: Site): Promise<string> {
  const { g, checkpoint, architecture } = source;
  const [out, width] = siteShape(architecture, site);
  if (!site.slice) checkTensor(checkpoint, site.tensor, [out, width]); // of a part, the length of the data is looked at
  const undeclared = site.tensor.replace(/weight$/, 'bias');
  if (!site.bias && undeclared !== site.tensor && checkpoint.tensors.has(undeclared)) {
    throw new LmqError('model/unsupported', 'the checkpoint has a bias that the configuration does not declare', {
      op: 'export',
      tensor: undeclared,
    });
  }
  const bias = site.bias && vector(source, site.bias, `${site.name}.bias`, out);
  const quantization = await source.quantization(site);
  if (!quantization) {
    const bytes = async () => bytesOf(decode(await readWeight(checkpoint, site)).data);
    return multiply(g, x, g.weight(`${site.name}.weight`, [out, width], 'FLOAT', bytes), site.name, bias);
  }
  const { bits, blockSize, zeroPoints } = quantization;
  const blocks = Math.ceil(width / blockSize);
  const part = (of: (m: MatMulNBits) => ArrayBufferView) => async () => bytesOf(of(await source.packed(site)));
  const w = `${site.name}.weight`;
  const inputs = [
    x,
    g.weight(
      `${w}_Q${bits}`,
      [out, blocks, (blockSize * bits) / 8],
      'UINT8',
      part((m) => m.codes),
    ),
    g.weight(
      `${w}_scales`,
      [out, blocks],
      'FLOAT',
      part((m) => m.scales),
    ),
    ...(zeroPoints
      ? [
          g.weight(
            `${w}_zero_points`,
            [out, rowBytes(blocks, bits)],
            'UINT8',
            part((m) => m.zeroPoints!),
          ),
        ]
      : []),
  ];
  const y = g.op(site.name, 'MatMulNBits', inputs, {
    domain: MICROSOFT,
    attributes: { K: { int: width }, N: { int: out }, bits: { int: bits }, block_size: { int: blockSize } },
  });
  return bias ? g.op(site.name, 'Add', [y, bias]) : y; // the operator's own bias is younger than the operator
}

/** x W^T + bias with W [out, in] in float32. */
export function multiply(g: Builder, x: string, w: string, name: string, bias?: string): string {
  return g.op(name, 'Gemm', bias ? [x, w, bias] : [x, w], { attributes: { transB: { int: 1 } } });
}

/** A vector of `n`, in float32; `change` is applied to each number and rounded. */
export function vector(
  { g, checkpoint }: Pick<Source, 'g' | 'checkpoint'>,
  tensor: string,
  name: string,
  n: number,
  change: (v: number) => number = (v) => v,
): string {
  checkTensor(checkpoint, tensor, [n]);
  return g.weight(name, [n], 'FLOAT', async () => bytesOf(decode(await checkpoint.read(tensor)).data.map(change)));
}

/** @throws LmqError `export/unsupported` for what the operator cannot hold */
function pack(tensor: CompressedTensor, name: string): MatMulNBits {
  const t = asAffine(tensor);
  if (t.kind !== 'affine') {
    throw new LmqError('export/unsupported', 'the layout cannot be stored', {
      op: 'export',
      tensor: name,
      expected: 'uniform integers of 4 or 8 bits',
      found: t.kind,
      hint: 'Export to lmq.',
    });
  }
  try {
    return affineToMatMulNBits(t);
  } catch (e) {
    if (isLmqError(e)) throw new LmqError(e.code, 'ONNX cannot hold this linear', { ...e.facts, op: 'export', tensor: name });
    throw e;
  }
}

export function bytesOf(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
