/**
 * What a recipe will do to a model, decided and checked before any work.
 * @module
 */
import type { Checkpoint, TensorInfo } from '@lmq/checkpoints';
import { type Architecture, headSite, type Site } from '@lmq/model';
import { LmqError } from '@lmq/tensor';
import { ownGridCalibrates, usesFisher } from './_own-grids.js';
import type { Recipe, Stage } from './api.js';
import { planInput } from './input-quant.js';
import { checkStage, matches, stageFor } from './recipe.js';

/** One linear that will be quantized. */
export interface PlannedSite {
  site: Site;
  stage: Stage;
  out: number;
  in: number;
}

/** Whether a stage runs the float model beside the quantized one. */
export function isAsymmetric({ method, gptaq }: Stage): boolean {
  return method === 'gptq' && gptaq !== false;
}

/** Whether a tensor is stored as it was trained. */
export function isDense({ format }: Pick<TensorInfo, 'format'>): boolean {
  return format === 'fp32' || format === 'fp16' || format === 'bf16';
}

/** Whether inputs get a scale from calibration. */
export function hasStaticInput({ input }: Pick<Partial<Stage>, 'input'>): boolean {
  return input !== undefined && planInput(input).range !== undefined;
}

/** Dense weights with factors of their columns, as an equalizing stage leaves them. */
const RESCALED = /^rescaled\((fp32|fp16|bf16)\)$/;

/** Whether a stage, or what an override changes of one, needs to know the inputs of linears. */
export function calibrates(stage: Pick<Partial<Stage>, 'method' | 'clip' | 'input' | 'sensitivity'>): boolean {
  const { method, clip } = stage;
  if (method === 'gptq' || ownGridCalibrates(stage) || hasStaticInput(stage)) return true;
  return (typeof clip === 'string' ? clip : clip?.method) === 'imatrix';
}

export { usesFisher };

/**
 * Whether a recipe needs to know the inputs of linears, from text or saved statistics, or their gradients, from text.
 * @param hasFisher whether there is saved Fisher information
 */
export function needsCalibration({ equalize, stages, overrides, budget }: Recipe, hasFisher = false): boolean {
  const options = [...stages, ...overrides, ...(budget?.candidates ?? [])];
  const reads = options.some((o) => calibrates(o) || (!hasFisher && usesFisher(o)));
  return equalize !== undefined || reads || (budget !== undefined && budget.measure !== 'weight');
}

/** How overrides of ggml name the embeddings. */
export const EMBEDDINGS = 'model.embed_tokens';

/**
 * Lists the linears that a recipe quantizes, in the order of the work: those inside blocks but routers, and the head where it is included.
 * Those of the method ggml are checked, and left to the export.
 * @throws LmqError `argument/option` for a group size that does not divide a width, options that exclude each other, or an override that
 * matches nothing; `model/unsupported` for weights that are already quantized, or a head tied to the embeddings
 */
export function planSites(checkpoint: Checkpoint, architecture: Architecture, recipe: Recipe): PlannedSite[] {
  const sites = architecture.sites.filter((s) => s.role !== 'router');
  const ggml = recipe.stages[0]?.method === 'ggml';
  if (ggml || recipe.include?.includes('lm_head')) sites.push(headSite(architecture));
  for (const { match } of recipe.overrides) {
    if (!sites.some((s) => matches(match, s.name)) && !(ggml && matches(match, EMBEDDINGS))) {
      throw new LmqError('argument/option', 'an override matches no linear', {
        op: 'plan',
        found: match,
        hint: `Names look like ${sites[0]?.name}.`,
      });
    }
  }
  const planned: PlannedSite[] = [];
  for (const site of sites) {
    const stage = stageFor(recipe, site.name);
    if (!stage) continue;
    checkStage(stage, site.name);
    if (!ggml && site.tensor === architecture.tensors.embedding) {
      throw new LmqError('model/unsupported', 'the head is the embedding matrix, which quantizing it would change too', {
        op: 'plan',
        tensor: site.name,
        expected: 'a head of its own',
        found: `${site.tensor} for both`,
        hint: 'Leave the head out, or start from an untied checkpoint.',
      });
    }
    const info = checkpoint.tensors.get(site.tensor);
    if (!info) throw new LmqError('model/missing', 'a weight is not in the checkpoint', { op: 'plan', tensor: site.tensor });
    if ((site.slice && !ggml) || !(isDense(info) || RESCALED.test(info.format))) {
      throw new LmqError('model/unsupported', 'the weight is already quantized, or stacked with others', {
        op: 'plan',
        file: info.file,
        tensor: site.tensor,
        expected: 'fp32, fp16 or bf16, a tensor of its own',
        found: site.slice ? `rows ${site.slice.join(' … ')} of ${info.format}` : info.format,
        hint: 'Quantize the original Hugging Face folder: quantizing twice adds the errors of both.',
      });
    }
    if (ggml) continue; // whole tensors are encoded while they are written
    const [out, width] = info.shape as [number, number];
    checkGroups(site, stage, width);
    planned.push({ site, stage, out, in: width });
  }
  return planned;
}

/** @throws LmqError `argument/option` for a group size that does not divide the width */
export function checkGroups({ tensor }: Site, { method, groupSize }: Stage, width: number): void {
  const runsOn = method === 'nf4' || method === 'fp4'; // from row to row
  if (runsOn || groupSize <= 0 || width % groupSize === 0) return;
  throw new LmqError('argument/option', 'the group size does not divide the width of a linear', {
    op: 'plan',
    tensor,
    expected: `a divisor of ${width}: ${divisors(width)}, or -1 for one group per row`,
    found: groupSize,
    hint: 'Choose another group size, or give this linear its own with an override.',
  });
}

function divisors(n: number): string {
  return [16, 32, 64, 128, 256, 512, 1024].filter((d) => n % d === 0).join(', ') || 'none of the usual sizes';
}
