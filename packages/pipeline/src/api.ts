import type { GgufFileTypeName } from '@lmq/checkpoints';
import type { AllocationSolver, ClipMethod, ClipOpts, FallbackChoice, FallbackStrategy, Sensitivity, SparseOpts } from '@lmq/quant-core';
import type { BlockType, FloatFormat, InputQuant } from '@lmq/tensor';
import type { FolderName } from './_folders/table.js';
import type { OwnGridMethod } from './_own-grids.js';
import type { InputName, InputSpec } from './input-quant.js';

/** Methods that a stage can name. `ggml`: the types and mixtures of llama.cpp, which the export names; all its options are in that name. */
export type MethodName = 'rtn' | 'gptq' | OwnGridMethod | 'ggml';

/** One quantization stage. Names and defaults are those of the methods' papers and reference code. */
export interface Stage {
  method: MethodName;
  /** 1 … 8; default 4, and 2 for trits. */
  bits: number;
  /**
   * Input columns that share a scale; -1 (default): one scale per output row. HQQ, NF4 and FP4: default 64; of the latter two, weights in runs
   * that go on from row to row.
   */
  groupSize: number;
  /** Default false. */
  symmetric: boolean;
  /** Three values: at the ends of the range, and zero; of HQQ, three levels of its grid. Default false. */
  trits: boolean;
  /** Scale convention; default `gptq`. See `@lmq/quant-core`. */
  preset: string;
  /** How the range of the scales is chosen; default `minmax`. `imatrix` calibrates, whatever the method. */
  clip: ClipMethod | ClipOpts;
  /** Stored format of the scales; weights are quantized with the rounded scales. Default fp16. */
  scaleFormat: FloatFormat;
  /**
   * How the inputs of the linears are quantized at run time, to be multiplied in integer arithmetic. Default: not at all. With a static scale,
   * the method calibrates, whatever it is.
   */
  input?: InputName | InputSpec;
  /** Reproduce the published code where it has a known flaw. Default false. */
  referenceCompat: boolean;
  /** GPTQ: quantize columns by falling diagonal of the Hessian. Default false. */
  actOrder: boolean;
  /** GPTQ: the same within groups and among them, so that groups stay in order. Default false; excludes actOrder. */
  groupAware: boolean;
  /** GPTQ: find all groups' scales before quantizing; `ordered`, with actOrder: those of groups cut from the ordered columns. Default false. */
  staticGroups: boolean | 'ordered';
  /** GPTQ: within a block, calibrate each set of linears on the already quantized ones. Default false. */
  trueSequential: boolean;
  /** GPTQ: damping, as a share of the mean diagonal of the Hessian. Default 0.01. */
  dampPercent: number;
  /** GPTQ: added to it while the Hessian cannot be factored; 0 goes straight to a floor under its diagonal. Default 0.01. */
  dampIncrement: number;
  /** GPTQ: columns per block. Default 128. */
  blockSize: number;
  /**
   * GPTAQ: aim at the outputs of the float model, whose activations then run beside those of the quantized one. The share of the difference
   * to make up for, 0 … 1; true: 0.25. Default false: plain GPTQ.
   */
  gptaq: boolean | number;
  /**
   * GPTQ: round to the table of NF4 or FP4 times the largest magnitude of each group (float32; groupSize: default 64), instead of a uniform grid.
   * Default: a uniform grid.
   */
  table?: 'nf4' | 'fp4';
  /**
   * FOEM: take back a part of what the sweep has added to each weight, 0 … 1; true: 0.2. Default false: plain GPTQ. Excludes gptaq.
   */
  foem: boolean | number;
  /**
   * GPTQ: an expert that fewer calibration tokens reach is calibrated on all tokens, as if the router had sent them there. Absent: 0.5 % of
   * what even routing would give it, and at least 1. 0: never; an expert that no token reaches is then rounded to nearest.
   */
  minTokens?: number;
  /**
   * GPTQ: a linear that fewer than `minTokens` calibration tokens reach is quantized by this strategy of GPTQModel, without calibration, instead
   * of being calibrated on all tokens. Default: none.
   */
  fallback?: FallbackStrategy | FallbackChoice;
  /** NF4 and FP4: quantize the scales, too. Default false. */
  doubleQuant: boolean;
  /** HQQ: exponent of the error. Default 0.7. */
  lpNorm?: number;
  /** HQQ: weight of the error beside outliers. Default 10. */
  beta?: number;
  /** HQQ: its growth in each iteration. Default 1.01. */
  kappa?: number;
  /** HQQ: iterations at most. Default 20. */
  iters?: number;
  /** SqueezeLLM: keep outliers apart; true: 0.45 % of the weights; a number: that share. Default false. */
  sparse: boolean | number | SparseOpts;
  /**
   * SqueezeLLM: what weights count by. Default `fisher`: squared gradients of the loss, as in the paper, collected in a pass of their own.
   * `hessian-diagonal`: the squares of the inputs, which need no backward pass. `uniform`: all alike.
   */
  sensitivity?: Sensitivity;
}

/**
 * AWQ, before the stage that quantizes: its scales are searched, and weights clipped, for the grid of that stage. See `@lmq/equalize`.
 */
export interface AwqStage {
  method: 'awq';
  /** Divide by the magnitude of the weights as well (AutoAWQ). Default false. */
  duoScaling: boolean;
  /** Also clip weights, but those of queries and keys. Default true. */
  clip: boolean;
  /**
   * Scale linears too whose input nothing can be divided for (o under grouped-query attention): the factors are stored beside the weights, in
   * the layout `rescaled`, which few exports hold. Default false: such linears are left alone, as in the published code.
   */
  rescale: boolean;
  /** Reproduce the published code where it has a known flaw. Default false. */
  referenceCompat: boolean;
}

/** SmoothQuant, before the stage that quantizes: what norms feed is scaled. See `@lmq/equalize`. */
export interface SmoothQuantStage {
  method: 'smoothquant';
  /**
   * 0 … 1, or `search`: for each pair the best of 21, with inputs in 8 bits per token, or per tensor where the stage that quantizes has them so.
   * Absent: the published value of the model's family, else 0.5.
   */
  alpha?: number | 'search';
  /** Reproduce the published code where it has a known flaw. Default false. */
  referenceCompat: boolean;
}

export type EqualizeStage = AwqStage | SmoothQuantStage;

/** Changes a stage for the linears whose name matches; the last match wins, option by option. */
export interface Override extends Partial<Omit<Stage, 'method'>> {
  /**
   * Name of a linear, `*` for any run of characters: `*.layers.0.*`, `*down_proj`. Or `re:` and a regular expression that fits the beginning of
   * the name, as in compressed-tensors' targets: `re:.*layers\.[0-3]\.`.
   */
  match: string;
  method?: MethodName;
  /** Leave these linears as they are. */
  skip?: boolean;
  /** ggml: this type instead of the one that the mixture has. The embeddings' name is `model.embed_tokens`, the head's `lm_head`. */
  type?: BlockType | 'F16' | 'BF16' | 'F32';
}

/** What a budget may choose for a linear: options other than the stage's. `skip`: it is kept as it is. */
export type Candidate = Omit<Override, 'match' | 'type'>;

/** What the error of a candidate is; see `measureBlocks`. */
export type ErrorMeasure = 'weight' | 'output' | 'kl';

/**
 * Mixed precision: candidates are tried on every linear, and each gets the one with which the sum of the errors is least within the budget.
 * The choices become overrides before the recipe's own, which therefore win.
 */
export interface Budget {
  /**
   * Stored bits per weight, scales and zero points counted, at most: the average over all linears that the recipe quantizes without a budget.
   * Those that are kept count with what they are stored in.
   */
  bits: number;
  /**
   * What each linear may get. Default: 2, 3, 4, 5, 6 and 8 bits, of which those that the export can hold, and to be kept; with methods that have
   * one width, to be quantized or kept.
   */
  candidates?: Candidate[];
  /** Default `output`. */
  measure: ErrorMeasure;
  /** Default `knapsack`, which is exact. See `allocate` of `@lmq/quant-core`. */
  solver: AllocationSolver;
  /**
   * Which linears get the same: `fused`, those that runtimes run as one matrix (q, k and v; gate and up; one projection of all experts); `none`.
   * Default: `fused` for exports to Hugging Face folders, else `none`.
   */
  agree?: 'fused' | 'none';
}

export interface CalibrationSpec {
  /** Windows of text; default 128. */
  samples: number;
  /** Tokens per window; default the smaller of 2048 and the model's context. */
  seqLen?: number;
  /** Picks the windows; default 0. */
  seed: number;
}

/** `lm_head`: the output head, where it is not the embedding matrix. */
export type IncludeName = 'lm_head';

export type ExportName = 'lmq' | 'onnx' | FolderName | `gguf:${GgufFileTypeName}`;

/** What to do to a model: the contents of a recipe file. */
export interface Recipe {
  /** Change weights so that they are easier to quantize, one after another. In a recipe file they come first in `stages`. Absent: none. */
  equalize?: EqualizeStage[];
  /** At most one stage in this version; none copies the model. */
  stages: Stage[];
  /** Linears to quantize besides those inside blocks; absent: none. */
  include?: IncludeName[];
  overrides: Override[];
  /** Mixed precision; absent: every linear gets what the stage and the overrides say. */
  budget?: Budget;
  calibration: CalibrationSpec;
  export: ExportName;
}

/** What happened to one linear. */
export interface LayerReport {
  name: string;
  method: MethodName;
  /** Absent for ggml, whose blocks `type` names. */
  bits?: number;
  groupSize?: number;
  type?: BlockType;
  /** Present when weights are trits. */
  trits?: true;
  /** How the range of the scales was chosen; absent: minimum and maximum. */
  clip?: ClipMethod;
  /** How its input is quantized at run time; absent: it is not. */
  input?: InputQuant;
  /** GPTQ: the table that weights are values of; absent: a uniform grid. */
  table?: 'nf4' | 'fp4';
  /** NF4 and FP4: present when scales are quantized, too. */
  doubleQuant?: true;
  /** SqueezeLLM: what weights counted by. */
  sensitivity?: Sensitivity;
  /** SqueezeLLM: weights kept apart. */
  outliers?: number;
  bitsPerWeight: number;
  weights: number;
  /** Squared error of the outputs on the calibration inputs, relative to the outputs: tr(E H E^T) / tr(W H W^T). Without calibration, of the weights. */
  error: number;
  /** tr(E H E^T) / 2; absent without calibration. */
  loss?: number;
  /**
   * GPTAQ: by how much the outputs are further from those of the float model than the unquantized linear's on the same inputs, relative to
   * tr(W H W^T). Negative: errors before it were made up for.
   */
  asymmetricLoss?: number;
  /** Calibration tokens that reached it. */
  tokens?: number;
  dampPercent?: number;
  /** Floor put under the diagonal of the Hessian when no damping was enough; absent when none was needed. */
  diagonalFloor?: number;
  deadColumns?: number;
  /** Why the method could not be used and what was done instead. */
  fallback?: string;
  seconds: number;
}

/** What a budget could choose for a linear, or did. */
export interface MeasuredCandidate {
  /** Absent for a linear that is kept. */
  method?: MethodName;
  bits?: number;
  groupSize?: number;
  /** Stored, everything counted. */
  bitsPerWeight: number;
  /** By the budget's measure. */
  error: number;
}

/** How a budget was spent. */
export interface BudgetReport extends Pick<Budget, 'bits' | 'measure' | 'solver'> {
  /** Stored, over the same linears as the budget. */
  bitsPerWeight: number;
  /** Sum of the errors of what was chosen. */
  error: number;
  /** No choice within the budget has less. */
  bound: number;
  linears: { name: string; weights: number; choice: MeasuredCandidate; candidates: MeasuredCandidate[] }[];
}

/** What happened between the linears that read the same channels and what makes these. */
export interface PairReport {
  method: EqualizeStage['method'];
  /** A norm's tensor, or the linear, whose output was divided by the scales; null: the factors are stored beside the weights. */
  from: string | null;
  /** The linears whose columns were multiplied. */
  to: string[];
  /** AWQ: exponent of the channels' magnitudes; null when no scales were best. */
  ratio?: number | null;
  /** SmoothQuant. */
  alpha?: number;
  /**
   * Squared error with the scales, relative: with AWQ of the half of the block when the linears are rounded, for single linears of their
   * own output; with a search of alpha, of their outputs in 8 bits. Absent without a search.
   */
  error?: number;
  /** The same without scales. */
  plainError?: number;
  /** Smallest and largest scale. */
  scales: [min: number, max: number];
  seconds: number;
}

/** How much AWQ clipped a linear. */
export interface ClipReport {
  name: string;
  /** Share of the groups that were clipped. */
  clipped: number;
  /** Error of the groups' outputs, relative to what it is without clipping. */
  relativeError: number;
  seconds: number;
}

/** What equalization did to one block. */
export interface EqualizeReport {
  pairs: PairReport[];
  clips: ClipReport[];
  /** Linears that were left as they were, and why. */
  skipped: { name: string; why: string }[];
}
