/**
 * What recipes are refused for before any work, by formats of uniform integers.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import { ownGridOf } from '../_own-grids.js';
import type { Stage } from '../api.js';
import type { PlannedSite } from '../plan.js';
import { unequalPartners } from './affine.js';

export interface AffineRules {
  target: string;
  bits: readonly number[];
  /** Outputs must be a multiple of this. */
  out: number;
  /** Inputs must be a multiple of this. */
  inputs: number;
  /** Whether columns may be grouped in act-order. */
  actOrder: boolean;
  /** Whether linears may differ in bits and groups. */
  mixed: boolean;
  head: boolean;
  /** Whether every zero point can be stored. */
  asymmetric: boolean;
  /** Whether columns of a row may have scales of their own. Default true. */
  grouped?: boolean;
  /** The method with a grid of its own whose results fit. Default none. */
  own?: Stage['method'];
  /** Whether scales may be float32. Default false. */
  fp32?: boolean;
}

/** @throws LmqError `export/unsupported` naming the first linear that does not fit */
export function checkAffine(rules: AffineRules, planned: readonly PlannedSite[]): void {
  const refuse = (what: string, facts: { tensor?: string; expected: unknown; found: unknown; hint: string }): never => {
    throw new LmqError('export/unsupported', what, { op: 'export', ...facts });
  };
  const { target } = rules;
  const first = planned[0];
  if (!first) {
    refuse(`${target} holds quantized weights, and nothing is quantized`, {
      expected: 'a method that makes codes',
      found: 'no stage',
      hint: 'Give a method, or export to safetensors.',
    });
    return;
  }
  for (const { site, stage, out, in: width } of planned) {
    const wrong: string[] = [];
    const grid = ownGridOf(stage);
    if (grid !== undefined && grid !== rules.own) wrong.push(gridWords(stage));
    if (!rules.bits.includes(stage.bits)) wrong.push(`bits ${stage.bits}`);
    if (stage.trits && grid !== rules.own) wrong.push('trits'); // HQQ's own are codes of 2 bits
    if (!rules.fp32 && stage.scaleFormat === 'fp32') wrong.push('fp32 scales');
    if (out % rules.out !== 0) wrong.push(`${out} outputs`);
    if (width % rules.inputs !== 0) wrong.push(`${width} inputs`);
    if (!rules.actOrder && stage.actOrder && stage.staticGroups !== true && stage.groupSize > 0 && stage.groupSize < width)
      wrong.push('groups in act-order (use staticGroups true)');
    if (!rules.asymmetric && (!stage.symmetric || hasZeroPoints(stage.fallback))) wrong.push('asymmetric zero points');
    if (rules.grouped === false && groupOf(stage.groupSize, width) > 0) wrong.push(`groupSize ${stage.groupSize}`);
    if (!rules.head && site.role === 'head') wrong.push('a quantized head');
    if (!rules.mixed && groupOf(stage.groupSize, width) !== groupOf(first.stage.groupSize, first.in))
      wrong.push(`groupSize ${stage.groupSize} beside ${first.stage.groupSize}`);
    if (wrong.length)
      refuse(`${target} cannot hold this linear`, {
        tensor: site.name,
        expected: needs(rules),
        found: wrong.join(', '),
        hint: `The nearest export that holds it is lmq. Or quantize with what ${target} needs, or leave this linear out with --skip.`,
      });
  }
  const schemes = planned.map(({ site, stage, in: width }) => ({
    module: site.name,
    bits: stage.bits,
    groupSize: groupOf(stage.groupSize, width),
  }));
  const unequal = unequalPartners(schemes);
  if (unequal)
    refuse('linears that runtimes fuse do not have one scheme', {
      tensor: unequal.first,
      expected: `the bits and groups of ${unequal.second}`,
      found: unequal.quantized ? 'others' : `${unequal.second} is not quantized`,
      hint: 'vLLM and SGLang run q, k and v as one matrix, and gate and up. Give them the same options, or export to lmq.',
    });
}

function needs({ bits, out, inputs, asymmetric, grouped = true, mixed, fp32 }: AffineRules): string {
  return [
    `bits ${bits.join(', ')}`,
    !asymmetric && 'symmetric',
    !fp32 && 'fp16 or bf16 scales',
    !grouped && 'groupSize -1',
    !mixed && 'one group size',
    out > 1 && `outputs a multiple of ${out}`,
    inputs > 1 && `inputs of ${inputs}`,
  ]
    .filter(Boolean)
    .join(', ');
}

const groupOf = (groupSize: number, width: number) => (groupSize < 0 || groupSize >= width ? -1 : groupSize);

/** What makes the grid of a stage, in a message. */
export function gridWords({ method, table }: Stage): string {
  return table === undefined ? `method ${method}` : `method ${method} with table ${table}`;
}

/** Whether a fallback has zero points also where the stage is symmetric. */
export function hasZeroPoints(fallback: Stage['fallback']): boolean {
  if (fallback === undefined) return false;
  const { strategy, smooth } = typeof fallback === 'string' ? { strategy: fallback } : fallback;
  return strategy !== 'rtn' && (typeof smooth === 'string' ? smooth : smooth?.method) !== 'mse';
}
