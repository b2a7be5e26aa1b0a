/**
 * Scale conventions of the ecosystem by name. Symmetric 4-bit grids alone come in four incompatible kinds; a checkpoint is only right
 * with the one its runtime expects.
 *
 * All are written for the unsigned grid `w = (code - zero) * scale`, code in 0 … 2^b - 1, symmetric zero 2^(b-1). The published rules
 * are for 4 (and 8) bits; other widths put 2^b - 1 for 15, 2^(b-1) for 8 and 2^(b-1) - 1 for 7. A preset decides scale and zero point
 * only: codes are always rounded half to even, also where the runtime's own quantizer rounds differently (GGUF, ONNX Runtime).
 *
 * Sources: IST-DASLab/gptq quant.py · mit-han-lab/llm-awq quantizer.py · mit-han-lab/smoothquant fake_quant.py ·
 * vllm-project/compressed-tensors helpers.py · pytorch/ao quant_primitives.py · intel/auto-round data_type/int.py ·
 * ggml-quants.c · onnxruntime matmul_nbits_quantizer.py.
 *
 * Arithmetic is float32 step by step, as in the sources.
 * @module
 */
import { rint } from '@lmq/formats';
import { type FloatFormat, LmqError } from '@lmq/tensor';
import type { Range } from './range.js';

const f = Math.fround;

/** Width of a grid and what a rule may depend on. */
export interface GridShape {
  bits: number;
  trits: boolean;
  /** 2^b - 1 */
  maxCode: number;
  /** 2^(b-1); magnitudes on one side of zero, so 1 for trits */
  half: number;
  scaleFormat: FloatFormat;
  referenceCompat: boolean;
}

/** Range → scale and zero point. A missing half means that the convention does not have it. */
export interface PresetRule {
  /** Scale; may be negative where the convention allows it. Zero is `half`. */
  symmetric?: (r: Range, g: GridShape) => number;
  /** `zero` gets the scale as stored. Its result is rounded here, and clamped to the grid by the caller. */
  asymmetric?: { scale: (r: Range, g: GridShape) => number; zero: (r: Range, scale: number, g: GridShape) => number };
  /** Fewest bits of the symmetric rule. */
  symmetricMinBits?: number;
}

export type PresetName =
  | 'gptq'
  | 'awq'
  | 'smoothquant'
  | 'compressed-tensors'
  | 'torchao'
  | 'torchao-no-clipping'
  | 'auto-round'
  | 'gguf'
  | 'onnxruntime';

const absMax = (r: Range) => Math.max(-r.min, r.max);
const low = (r: Range) => Math.min(r.min, 0);
const high = (r: Range) => Math.max(r.max, 0);
const span = (r: Range) => f(high(r) - low(r));
/** Gap between 1 and the next number of a format. */
const epsilon: Record<FloatFormat, number> = { fp32: 2 ** -23, fp16: 2 ** -10, bf16: 2 ** -7 };
const atLeast = (scale: number, floor: number) => (Math.abs(scale) < floor ? (scale < 0 ? -floor : floor) : scale);
const zeroFromMin = (r: Range, scale: number) => rint(f(-low(r) / scale));

/** a / (half - 1): the most positive code reaches +a, the most negative one is not needed. */
const int8Style = (r: Range, g: GridShape) => f(Math.max(absMax(r), 1e-5) / (g.half - 1));

/** The table. */
export const PRESETS: Readonly<Record<PresetName, PresetRule>> = {
  gptq: {
    // 2a / maxCode puts +a half a step above the last code. The published code forgets to mirror a group without negative values:
    // its scale is then half as wide as needed.
    symmetric: (r, g) => {
      const a = absMax(r) || 1;
      return f((g.referenceCompat && r.min >= 0 && r.max > 0 ? a : 2 * a) / g.maxCode);
    },
    asymmetric: { scale: (r, g) => f((span(r) || 2) / g.maxCode), zero: (r, s) => (span(r) === 0 ? rint(f(1 / s)) : zeroFromMin(r, s)) },
  },
  awq: {
    symmetric: int8Style,
    symmetricMinBits: 2,
    // The range is not forced to hold zero: a group of like values keeps its resolution, and zero is then off the grid.
    asymmetric: { scale: (r, g) => f(Math.max(f(r.max - r.min), 1e-5) / g.maxCode), zero: (r, s) => -rint(f(r.min / s)) },
  },
  smoothquant: { symmetric: int8Style, symmetricMinBits: 2 },
  'compressed-tensors': {
    symmetric: (r, g) => f((2 * absMax(r)) / g.maxCode) || epsilon[g.scaleFormat],
    asymmetric: {
      scale: (r, g) => f(span(r) / g.maxCode) || epsilon[g.scaleFormat],
      zero: (r, s, g) => rint(Math.min(Math.max(f(-g.half - f(low(r) / s)), -g.half), g.half - 1)) + g.half,
    },
  },
  torchao: {
    symmetric: (r, g) => Math.max(f((2 * absMax(r)) / g.maxCode), epsilon.fp32),
    asymmetric: {
      scale: (r, g) => Math.max(f(span(r) / g.maxCode), epsilon.fp32),
      zero: (r, s) => -rint(f(low(r) / s)),
    },
  },
  'torchao-no-clipping': {
    symmetric: (r, g) => Math.max(f(-low(r) / g.half), f(high(r) / (g.half - 1)), epsilon.fp32),
    symmetricMinBits: 2,
  },
  'auto-round': {
    // The larger side gets code 0, which is one step further from zero than the last code: the sign of the scale says which side.
    symmetric: (r, g) => {
      const a = absMax(r);
      return atLeast(a === 0 ? 0 : f((-r.min > r.max ? a : -a) / g.half), 1e-5);
    },
    asymmetric: { scale: (r, g) => Math.max(f(span(r) / g.maxCode), 1e-5), zero: zeroFromMin },
  },
  gguf: {
    // Q8_0 is a / 127; Q4_0 and its narrower kin send the first weight of largest magnitude to code 0.
    symmetric: (r, g) => (g.bits === 8 ? f(absMax(r) / 127) : f(r.signedMax / -g.half)) || 1,
  },
  onnxruntime: {
    symmetric: (r, g) => f((r.max > -r.min ? r.max : r.min) / -g.half) || 1,
    asymmetric: { scale: (r, g) => f(span(r) / g.maxCode) || 1, zero: zeroFromMin },
  },
};

/**
 * The rule of a preset.
 * @throws LmqError `argument/option` for an unknown name, a missing variant, or too few bits for the variant
 */
export function presetRule(name: PresetName, symmetric: boolean, bits: number, op: string): PresetRule {
  const rule = Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined;
  if (!rule) {
    throw new LmqError('argument/option', 'unknown preset', { op, expected: Object.keys(PRESETS).join(', '), found: name });
  }
  if (symmetric ? !rule.symmetric : !rule.asymmetric) {
    throw new LmqError('argument/option', `preset ${name} has no ${symmetric ? 'symmetric' : 'asymmetric'} variant`, {
      op,
      found: `symmetric: ${symmetric}`,
      hint: `Set symmetric: ${!symmetric}, or choose another preset.`,
    });
  }
  const fewest = symmetric ? (rule.symmetricMinBits ?? 1) : 1;
  if (bits < fewest) {
    throw new LmqError('argument/option', `preset ${name} cannot be symmetric at this width`, {
      op,
      expected: `bits >= ${fewest}`,
      found: bits,
    });
  }
  return rule;
}
