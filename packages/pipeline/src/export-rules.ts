/**
 * Which results an export can hold. Nothing is ever quantized a second time to fit a file format.
 * @module
 */
import { MATMUL_NBITS, matMulBlockSize } from '@lmq/formats';
import { type InputQuant, LmqError } from '@lmq/tensor';
import { gridWords, hasZeroPoints } from './_folders/rules.js';
import { folderFormat, isFolderName } from './_folders/table.js';
import { ownGridOf } from './_own-grids.js';
import type { ExportName, Recipe, Stage } from './api.js';
import { planInput } from './input-quant.js';
import type { PlannedSite } from './plan.js';
import { defaultMethod } from './recipe.js';

/** Columns that share a scale in GGUF's Q4_0 and Q8_0. */
const BLOCK = 32;

/** What an export to GGUF blocks asks of a stage, when nothing else is said. */
const BLOCK_STAGES = {
  'gguf:q4_0': { bits: 4, groupSize: 32, symmetric: true, scaleFormat: 'fp16' },
  'gguf:q8_0': { bits: 8, groupSize: 32, symmetric: true, scaleFormat: 'fp16' },
} as const;

/** The stage options that fit an export to GGUF blocks best; undefined for the other exports. */
export function blockStage(target: ExportName): Pick<Stage, 'bits' | 'groupSize' | 'symmetric' | 'scaleFormat'> | undefined {
  return BLOCK_STAGES[target as keyof typeof BLOCK_STAGES];
}

/** Whether an export is one file, or a folder. */
export function outputKind(target: ExportName): 'file' | 'folder' {
  return target.startsWith('gguf:') ? 'file' : 'folder';
}

/** Whether an export says that inputs are quantized so: our own folders say all, other formats what they have words for. */
export async function saysInput(target: ExportName, input: InputQuant): Promise<boolean> {
  return target === 'lmq' || (isFolderName(target) && ((await folderFormat(target)).saysInput?.(input) ?? false));
}

/**
 * Refuses an export that cannot hold what the plan produces.
 * @throws LmqError `export/unsupported` naming the first linear that does not fit and the nearest export that does
 */
export async function checkExport(
  { export: target, stages }: Pick<Recipe, 'export' | 'stages'>,
  planned: readonly PlannedSite[],
): Promise<void> {
  if (stages[0]?.method === 'ggml') {
    if (defaultMethod(target) === 'ggml') return;
    throw new LmqError('export/unsupported', 'the method ggml makes the blocks of a GGUF type', {
      op: 'export',
      expected: 'an export such as gguf:q4_k_m',
      found: target,
    });
  }
  if (target === 'lmq') return; // any layout
  for (const { site, stage } of planned) {
    if (stage.input === undefined) continue;
    const { quant } = planInput(stage.input);
    if (await saysInput(target, quant)) continue;
    throw new LmqError('export/unsupported', `${target} does not say that inputs are quantized so`, {
      op: 'export',
      tensor: site.name,
      expected: 'lmq; compressed-tensors for int8; bitsandbytes for llm-int8 with a threshold of 6',
      found: quant.kind,
      hint: 'Export to lmq, or leave input out: the weights are the same.',
    });
  }
  if (target === 'gguf:f32') return; // any decoded value
  if (isFolderName(target)) {
    (await folderFormat(target)).check(planned);
    return;
  }
  if (target === 'gguf:f16' || target === 'gguf:bf16') {
    if (!planned.length) return;
    throw new LmqError('export/unsupported', 'a product of code and scale is not a half-precision number', {
      op: 'export',
      tensor: planned[0]!.site.name,
      found: target,
      hint: 'Export quantized weights to lmq, to gguf:f32 (decoded), or to a quantized GGUF type.',
    });
  }
  if (target === 'onnx') {
    checkOnnx(planned);
    return;
  }
  const need = blockStage(target);
  if (!need) {
    throw new LmqError('export/unsupported', `${target} holds what its own quantizer makes`, {
      op: 'export',
      expected: 'the method ggml',
      found: stages[0]?.method ?? 'none',
      hint: 'Leave the method out. GPTQ and rounding to nearest fit gguf:q4_0 and gguf:q8_0.',
    });
  }
  if (!planned.length) {
    throw new LmqError('export/unsupported', `${target} holds quantized weights, and nothing is quantized`, {
      op: 'export',
      expected: `a method that makes ${need.bits}-bit codes`,
      found: 'no stage',
      hint: 'Give a method, or export to gguf:f16.',
    });
  }
  for (const { site, stage, in: width } of planned) {
    const wrong: string[] = [];
    if (ownGridOf(stage) !== undefined) wrong.push(gridWords(stage));
    if (stage.bits !== need.bits) wrong.push(`bits ${stage.bits}`);
    if (stage.trits) wrong.push('trits');
    if (!stage.symmetric) wrong.push('asymmetric zero points');
    if (hasZeroPoints(stage.fallback)) wrong.push('a fallback with zero points');
    if (stage.scaleFormat !== 'fp16') wrong.push(`${stage.scaleFormat} scales`);
    if ((stage.groupSize < 0 ? width : stage.groupSize) % BLOCK !== 0) wrong.push(`groupSize ${stage.groupSize}, width ${width}`);
    if (stage.actOrder && stage.staticGroups !== true && stage.groupSize > 0) wrong.push('groups in act-order (use staticGroups true)');
    if (!wrong.length) continue;
    throw new LmqError('export/unsupported', `${target} cannot hold this linear`, {
      op: 'export',
      tensor: site.name,
      expected: `bits ${need.bits}, symmetric, fp16 scales, groups of a multiple of ${BLOCK} columns`,
      found: wrong.join(', '),
      hint: `The nearest exports that hold it: lmq (as it is), gguf:f32 (decoded). Or quantize with what ${target} needs.`,
    });
  }
}

/** Weights that are not quantized are float32 in ONNX; quantized ones must suit the operator `MatMulNBits`. */
function checkOnnx(planned: readonly PlannedSite[]): void {
  for (const { site, stage, in: width } of planned) {
    const wrong: string[] = [];
    if (ownGridOf(stage) !== undefined) wrong.push(gridWords(stage));
    if (!MATMUL_NBITS.some((bits) => bits === stage.bits)) wrong.push(`bits ${stage.bits}`);
    if (matMulBlockSize(stage.groupSize < 0 ? width : stage.groupSize, width) === 0) wrong.push(`groupSize ${stage.groupSize}`);
    if (stage.actOrder && stage.staticGroups !== true && stage.groupSize > 0) wrong.push('groups in act-order (use staticGroups true)');
    if (!wrong.length) continue;
    throw new LmqError('export/unsupported', 'onnx cannot hold this linear', {
      op: 'export',
      tensor: site.name,
      expected: 'bits 4 or 8, groups of a multiple of 16 columns',
      found: wrong.join(', '),
      hint: 'The nearest exports that hold it: lmq (as it is), gguf:f32 (decoded). Or quantize with what onnx needs.',
    });
  }
}
