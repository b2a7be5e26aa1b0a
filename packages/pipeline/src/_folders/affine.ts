/**
 * What the formats of uniform integers share: tensors brought to the layout that their writers take, and linears that runtimes fuse.
 * @module
 */
import { blocksToAffine, floatToFp16, roundToFormat, zeroValues } from '@lmq/formats';
import type { Affine, CompressedTensor } from '@lmq/tensor';
import type { FolderFacts, FolderPlan, FolderSurvey } from './format.js';

/**
 * The same values as codes with 16-bit scales, where that is possible without changing one: GGUF blocks that have an affine form, float32
 * scales that are half-precision numbers, zero points that need not be stored. Else the tensor as it is.
 */
export function asAffine(tensor: CompressedTensor): CompressedTensor {
  if (tensor.kind === 'blocks') return blocksToAffine(tensor) ?? tensor;
  if (tensor.kind !== 'affine') return tensor;
  const { zeroPoints, ...symmetric } = tensor;
  const t = zeroPoints && isSymmetric(tensor) ? symmetric : tensor;
  if (t.scales.format !== 'fp32') return t;
  const { data } = t.scales;
  if (!data.every((s) => roundToFormat(s, 'fp16') === s)) return t;
  return { ...t, scales: { ...t.scales, format: 'fp16', data: Uint16Array.from(data, floatToFp16) } };
}

/** One linear as configurations describe it. */
export interface Scheme {
  module: string;
  bits: number;
  /** -1 for a whole row. */
  groupSize: number;
  /** All zero points in the middle. */
  symmetric: boolean;
  actOrder: boolean;
  scales: string;
}

/** Whether all zero points are in the middle. */
function isSymmetric(t: Affine): boolean {
  const zeros = t.zeroPoints && zeroValues(t, 0, t.scales.data.length);
  const middle = 2 ** (t.bits - 1);
  return !(zeros as Float32Array | undefined)?.some((z) => z !== middle);
}

/** The scheme of a weight. */
export function schemeOf(module: string, t: Affine): Scheme {
  const [, inputs] = t.shape;
  return {
    module,
    bits: t.bits,
    groupSize: t.groupSize >= inputs ? -1 : t.groupSize,
    symmetric: isSymmetric(t),
    actOrder: t.groupIndex !== undefined,
    scales: t.scales.format,
  };
}

/**
 * The survey of a format that describes each linear by its scheme.
 * @param accept refuses what cannot be stored beside the schemes taken so far
 * @param plan what is written; the notes that all such formats need are added
 */
export function surveySchemes(
  { linears, dtype }: FolderFacts,
  accept: (name: string, t: CompressedTensor, taken: readonly Scheme[]) => void,
  plan: (schemes: readonly Scheme[], unquantized: readonly string[]) => FolderPlan,
): FolderSurvey {
  const schemes: Scheme[] = [];
  return {
    add(name, tensor) {
      const t = asAffine(tensor);
      accept(name, t, schemes);
      schemes.push(schemeOf(name.slice(0, -'.weight'.length), t as Affine));
    },
    finish() {
      const taken = new Set(schemes.map((s) => s.module));
      const made = plan(
        schemes,
        linears.filter((l) => !taken.has(l)),
      );
      return { ...made, notes: [...made.notes, ...schemeNotes(schemes, dtype, (module) => linears.includes(module))] };
    },
  };
}

/** Bits and groups that most linears have. */
export function mostCommon(schemes: readonly Scheme[]): Pick<Scheme, 'bits' | 'groupSize'> {
  const count = new Map<string, number>();
  let best = schemes[0] ?? { bits: 4, groupSize: -1 };
  let most = 0;
  for (const s of schemes) {
    const key = `${s.bits} ${s.groupSize}`;
    const n = (count.get(key) ?? 0) + 1;
    count.set(key, n);
    if (n > most) [most, best] = [n, s];
  }
  return best;
}

/** Linears that vLLM, SGLang and TensorRT-LLM run as one matrix; w1 and w3 are an expert's. */
const FUSED = [
  ['q_proj', 'k_proj', 'v_proj'],
  ['gate_proj', 'up_proj'],
  ['w1', 'w3'],
];

/**
 * The first two linears that runtimes fuse and that differ in bits or groups, or of which one is not quantized.
 * @param exists whether the model has a linear of that name; default: where one of a set is, all of them are
 */
export function unequalPartners(
  schemes: readonly Pick<Scheme, 'module' | 'bits' | 'groupSize'>[],
  exists: (module: string) => boolean = () => true,
): { first: string; second: string; quantized: boolean } | undefined {
  const byModule = new Map(schemes.map((s) => [s.module, s]));
  for (const first of schemes) {
    const at = first.module.lastIndexOf('.') + 1;
    const set = FUSED.find((parts) => parts.includes(first.module.slice(at))) ?? [];
    for (const second of set.map((part) => first.module.slice(0, at) + part)) {
      const other = byModule.get(second);
      const unequal = other ? other.bits !== first.bits || other.groupSize !== first.groupSize : exists(second);
      if (unequal) return { first: first.module, second, quantized: other !== undefined };
    }
  }
  return undefined;
}

/** What runtimes make of schemes that a file can hold. */
export function schemeNotes(schemes: readonly Scheme[], dtype: string, exists: (module: string) => boolean): string[] {
  const notes: string[] = [];
  const unequal = unequalPartners(schemes, exists);
  if (unequal)
    notes.push(`${unequal.first} and ${unequal.second} differ: vLLM and SGLang, which run them as one matrix, refuse such a model`);
  const other = schemes.find((s) => s.scales !== dtype);
  if (other)
    notes.push(
      `scales are ${other.scales}, and config.json says ${dtype}: a runtime that loads the model in ${dtype} rounds them; load it in ${other.scales}`,
    );
  return notes;
}
