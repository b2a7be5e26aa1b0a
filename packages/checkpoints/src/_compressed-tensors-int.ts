/**
 * Linears of compressed-tensors in integers: codes packed into words, or one per byte. Codes and zero points are signed there, ours are
 * not: the difference is `2 ** (bits - 1)`, which packed ones have added already.
 * @module
 */
import { type CompressedTensorsPacking, compressedTensorsPackings, packRows, packStream, unpackCompressedTensors } from '@lmq/formats';
import type { Affine } from '@lmq/tensor';
import { fail } from './_checks.js';
import type { WeightArgs } from './_compressed-tensors-config.js';
import { blockName, type Candidates, type Chosen, chooseGroup, scaleBlock, scaleShape } from './_compressed-tensors-groups.js';
import { DTYPES } from './_dtypes.js';
import { floatData, typedView } from './_floats.js';
import { isOrdered } from './_group-index.js';
import { allAre, type LinearPlan, type PackedLinear, SCALES, wrongShape } from './_packed-linears.js';

type Shape = [out: number, inputs: number];

/** A linear whose configuration may say how its inputs are rounded. */
export interface IntPlan extends LinearPlan {
  declared: Chosen['input'];
}

/** `pack-quantized`: `weight_packed` [out, words], `weight_shape`, zero points packed along the output. */
export async function planPacked(of: Candidates, wanted?: CompressedTensorsPacking): Promise<IntPlan> {
  const { linear } = of;
  const [out, words] = linear.shape('weight_packed', ['I32'], 2) as Shape;
  const inputs = await storedInputs(linear, out);
  const scales = scaleShape(of, SCALES);
  const zeros = linear.parts.get('weight_zero_point');
  const packed = zeros !== undefined && linear.dtype('weight_zero_point') === 'I32';
  if (zeros) linear.shape('weight_zero_point', ['I32', 'I8'], zeros.shape.length);
  const packings = (bits: number) => compressedTensorsPackings(inputs, bits, words).filter((p) => (wanted ?? p) === p);
  const chosen = chooseGroup(of, (w) => {
    if (w.type !== 'int' || w.bits > 8 || !(zeros || w.symmetric) || packings(w.bits).length === 0) return undefined;
    return scaleBlock(w, scales, out, inputs);
  });
  const { bits } = chosen;
  const cols = scales[1] ?? 1;
  let fitting = packings(bits);
  if (packed) {
    fitting = fitting.filter((p) => compressedTensorsPackings(out, bits, zeros.shape[0]!).includes(p));
    if (fitting.length === 0 || zeros.shape.length !== 2 || zeros.shape[1] !== cols || chosen.block[0] !== 1)
      wrongShape(linear, 'weight_zero_point', [Math.ceil((out * bits) / 32), cols]);
  }
  const each = Math.floor(32 / bits);
  const differ = 32 % bits !== 0 && (inputs > each || (packed && out > each));
  if (fitting.length > 1 && differ)
    fail('file/format', 'the size does not tell how codes are packed', {
      ...linear.where,
      found: `${inputs} inputs of ${bits} bits in ${words} words`,
      hint: "Open with { packing: 'stream' } what compressed-tensors of 2026 wrote, with { packing: 'whole' } what is older.",
    });
  const packing = fitting[0]!;
  const unpack = (data: Uint8Array, width: number, along: 'rows' | 'cols') =>
    unpackCompressedTensors(typedView(data, Int32Array), bits, out, width, { packing, along });
  return plan(linear, [out, inputs], chosen, {
    async codes() {
      const data = await linear.bytes('weight_packed');
      // words that are full are our rows
      return packing === 'stream' && (inputs * bits) % 32 === 0 ? data : packRows(unpack(data, inputs, 'cols'), bits, out, inputs);
    },
    zeros: packed ? async () => unpack(await linear.bytes('weight_zero_point'), cols, 'rows') : undefined,
  });
}

/** `int-quantized`, `naive-quantized`: `weight` int8, whatever the bits. */
export function planInt8(of: Candidates): IntPlan {
  const { linear } = of;
  const shape = linear.shape('weight', ['I8'], 2) as Shape;
  const scales = scaleShape(of, SCALES);
  const zeros = linear.parts.get('weight_zero_point');
  const fits = (w: WeightArgs) => (w.type === 'int' && w.bits <= 8 && (zeros || w.symmetric) ? scaleBlock(w, scales, ...shape) : undefined);
  // a byte is the same integer whatever the bits: of groups that fit, the widest holds all
  const widest = Math.max(...of.groups.map(({ weights }) => (fits(weights) ? weights.bits : 0)));
  const chosen = chooseGroup(of, (w) => (w.bits === widest ? fits(w) : undefined));
  const { bits } = chosen;
  return plan(linear, shape, chosen, {
    codes: async () => packRows(unsigned(await linear.bytes('weight'), bits, 'weight', linear), bits, ...shape),
  });
}

/** Inputs of a packed linear: `weight_shape` is data, and the only place that says. */
async function storedInputs(linear: PackedLinear, out: number): Promise<number> {
  const [n] = linear.shape('weight_shape', ['I64', 'I32'], 1);
  if (n !== 2) wrongShape(linear, 'weight_shape', [2]);
  const data = await linear.bytes('weight_shape');
  const view = new DataView(data.buffer, data.byteOffset);
  const at = (i: number) => (linear.dtype('weight_shape') === 'I64' ? Number(view.getBigInt64(8 * i, true)) : view.getInt32(4 * i, true));
  const [rows, inputs] = [at(0), at(1)];
  if (rows === out && inputs > 0) return inputs;
  return fail('file/format', 'weight_shape does not fit the other parts', {
    ...linear.where,
    expected: `[${out}, inputs]`,
    found: `[${rows}, ${inputs}]`,
  });
}

/** int8 values as codes. */
function unsigned(values: Uint8Array, bits: number, part: string, { where }: PackedLinear): Uint8Array {
  const middle = 2 ** (bits - 1);
  const codes = new Uint8Array(values.length);
  for (let i = 0; i < codes.length; i++) {
    const code = ((values[i]! << 24) >> 24) + middle;
    if (code >>> bits !== 0)
      fail('file/format', `${part} element ${i} needs more than ${bits} bits`, {
        ...where,
        op: 'read',
        expected: `${-middle} … ${middle - 1}`,
        found: code - middle,
      });
    codes[i] = code;
  }
  return codes;
}

interface Reads {
  codes(): Promise<Uint8Array>;
  /** Zero points that are packed; others are stored as int8, in the shape of the scales. */
  zeros?: (() => Promise<Uint8Array>) | undefined;
}

function plan(linear: PackedLinear, shape: Shape, { bits, block, symmetric, actOrder, input }: Chosen, reads: Reads): IntPlan {
  const [, inputs] = shape;
  const has = (part: string) => linear.parts.has(part);
  const stored = linear.parts.get('weight_scale')!.shape;
  if (has('weight_zero_point') && !reads.zeros) {
    const found = linear.shape('weight_zero_point', ['I8'], stored.length);
    if (`${found}` !== `${stored}`) wrongShape(linear, 'weight_zero_point', stored);
  }
  // without it the order of act-order is lost: says that it is missing
  if (has('weight_g_idx') || (actOrder && block[1] < inputs)) {
    const [n] = linear.shape('weight_g_idx', ['I32'], 1);
    if (n !== inputs) wrongShape(linear, 'weight_g_idx', [inputs]);
  }
  return {
    shape,
    format: `affine ${bits}-bit ${blockName(block, shape)}`,
    declared: input,
    async read(): Promise<Affine> {
      const codes = await reads.codes();
      const format = DTYPES.get(linear.dtype('weight_scale'))!.float!;
      const data = floatData(await linear.bytes('weight_scale'), format);
      const zeros = await readZeros(linear, bits, symmetric, reads);
      const groupIndex = await readOrder(linear, inputs, block, actOrder);
      return {
        kind: 'affine',
        shape,
        bits,
        groupSize: block[1],
        codes,
        scales: { block, format, data },
        ...(zeros && { zeroPoints: packStream(zeros, bits) }),
        ...(groupIndex && { groupIndex }),
      };
    },
  };
}

/** Zero points, `undefined` when all are in the middle. */
async function readZeros(linear: PackedLinear, bits: number, symmetric: boolean, reads: Reads): Promise<Uint8Array | undefined> {
  const part = 'weight_zero_point';
  if (!linear.parts.has(part)) return undefined;
  const zeros = reads.zeros ? await reads.zeros() : unsigned(await linear.bytes(part), bits, part, linear);
  const middle = 2 ** (bits - 1);
  if (allAre(zeros, middle)) return undefined;
  if (symmetric)
    fail('model/config', 'the configuration says symmetric, the zero points do not', {
      ...linear.where,
      op: 'read',
      expected: 0,
      found: zeros.find((z) => z !== middle)! - middle,
      hint: 'Runtimes disagree on such a file. If its zero points count, set symmetric to false in the group.',
    });
  return zeros;
}

/** The group of each column, `undefined` when they are in order. -1 everywhere says that none was chosen. */
async function readOrder(linear: PackedLinear, inputs: number, block: Chosen['block'], actOrder: Chosen['actOrder']) {
  if (!linear.parts.has('weight_g_idx')) return undefined;
  const index = typedView(await linear.bytes('weight_g_idx'), Int32Array);
  if (index.every((g) => g === -1) || isOrdered(index, Math.ceil(inputs / block[1]), block[1], 'weight_g_idx', linear.where))
    return undefined;
  if (actOrder === false)
    fail('model/config', 'weight_g_idx is that of act-order, the configuration says there is none', {
      ...linear.where,
      op: 'read',
      hint: 'Some runtimes ignore weight_g_idx then. Set actorder to "group" in the group.',
    });
  return index;
}
