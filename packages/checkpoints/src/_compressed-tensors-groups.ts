/**
 * Which group of the configuration a stored linear belongs to: the one that its scales and codes fit.
 * @module
 */
import { fail } from './_checks.js';
import type { DeclaredInput, WeightArgs, WeightGroup } from './_compressed-tensors-config.js';
import type { PackedLinear } from './_packed-linears.js';

export type Block = [rows: number, cols: number];

/** A linear, and the groups whose format is the one that it is stored in. */
export interface Candidates {
  linear: PackedLinear;
  groups: readonly WeightGroup[];
  /** Names the configuration in errors. */
  file: string;
}

export interface Chosen {
  bits: number;
  /** Weights that share a scale. */
  block: Block;
  /** True when all that fit say so. */
  symmetric: boolean;
  /** Whether columns are in act-order; `undefined` when those that fit differ in it. */
  actOrder: boolean | undefined;
  /** How inputs are rounded; `several` when those that fit do not agree. */
  input: DeclaredInput | 'several' | undefined;
}

/** The shape of `weight_scale`. @throws LmqError `file/format` when it is of another dtype or empty */
export function scaleShape({ linear }: Candidates, dtypes: readonly string[]): readonly number[] {
  const { shape } = linear.parts.get('weight_scale')!;
  return linear.shape('weight_scale', dtypes, shape.length);
}

/**
 * The one way in which groups read the linear.
 * @param fits the block that shares a scale, where a group fits the stored parts
 * @throws LmqError `model/config` when no group fits, or some that fit mean different weights
 */
export function chooseGroup(of: Candidates, fits: (args: WeightArgs) => Block | undefined): Chosen {
  const found = of.groups.flatMap(({ weights, input }) => {
    const block = fits(weights);
    return block ? [{ weights, input, block }] : [];
  });
  const [first] = found;
  if (!first) return noGroup(of);
  const { bits, actOrder } = first.weights;
  if (found.some((f) => f.weights.bits !== bits || `${f.block}` !== `${first.block}`))
    noGroup(of, 'several groups of the configuration fit the linear');
  return {
    bits,
    block: first.block,
    symmetric: found.every((f) => f.weights.symmetric),
    actOrder: found.every((f) => f.weights.actOrder === actOrder) ? actOrder : undefined,
    input: found.every((f) => JSON.stringify(f.input) === JSON.stringify(first.input)) ? first.input : 'several',
  };
}

/** Throws: the configuration does not say how the linear is quantized. */
export function noGroup({ linear, groups, file }: Candidates, what = 'no group of the configuration fits the linear'): never {
  const parts = [...linear.parts].filter(([part]) => part !== 'bias');
  return fail('model/config', what, {
    ...linear.where,
    expected: groups.map(groupName).join(' or ') || 'a group of the format that it is stored in',
    found: parts.map(([part, { shape }]) => `${part} ${linear.dtype(part)} [${shape.join(', ')}]`).join(', '),
    hint: `${file} belongs to another model.`,
  });
}

/** `pack-quantized int4 per group 128, act-order`. */
function groupName({ format = 'any format', weights: w }: WeightGroup): string {
  const size = w.groupSize ?? w.block?.join('x');
  const more = `${w.symmetric ? '' : ', asymmetric'}${w.actOrder ? ', act-order' : ''}`;
  return `${format} ${w.type}${w.bits} per ${w.strategy}${size === undefined ? '' : ` ${size}`}${more}`;
}

/**
 * The block that shares a scale, when scales of this shape are those of a weight [out, inputs] quantized so; else `undefined`. Columns are
 * whole groups, or one that is not full: the package has no others.
 */
export function scaleBlock(args: WeightArgs, scales: readonly number[], out: number, inputs: number): Block | undefined {
  const { strategy, groupSize = 1, block = [1, 1] } = args;
  const [rows = 1, cols = 1] = scales;
  const grid = (r: number, c: number): Block | undefined =>
    rows === Math.ceil(out / r) && cols === Math.ceil(inputs / c) ? [Math.min(r, out), Math.min(c, inputs)] : undefined;
  if (scales.length > 2) return undefined;
  if (strategy === 'tensor') return grid(out, inputs);
  if (strategy === 'channel') return grid(1, inputs);
  if (strategy === 'block') return grid(...block);
  return inputs % groupSize === 0 || inputs < groupSize ? grid(1, groupSize) : undefined;
}

/** `per tensor`, `per row`, `g128` or `b128x128`. */
export function blockName([rows, cols]: Block, [out, inputs]: readonly [number, number]): string {
  if (cols < inputs) return rows === 1 ? `g${cols}` : `b${rows}x${cols}`;
  return rows === 1 ? 'per row' : rows === out ? 'per tensor' : `b${rows}x${cols}`;
}
