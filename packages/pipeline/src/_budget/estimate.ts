/**
 * What measuring the candidates of a budget will cost, from the operations of its work.
 * @module
 */
import type { Architecture } from '@lmq/model';
import type { Budget } from '../api.js';
import type { BudgetPlan } from '../budget.js';
import { type EstimateStep, estimateMemory, hessianSeconds, tokenSeconds, type WindowSizes } from '../estimate.js';
import type { PlannedSite } from '../plan.js';
import { linearSeconds, type Rates } from '../rates.js';
import { KL_WINDOWS } from './kl.js';
import { roundedStage } from './rounded-stage.js';

/** Rows of a weight that `backendProxyLoss` looks at. */
const ROWS = 256;

/** Softmax and divergence of two rows of logits: seconds for each token of the vocabulary. */
const DIVERGENCE = 4e-8;

/** Logits of both models as they are held at once, and read. */
const LOGITS_BYTES = 4 * 16e6;

export interface MeasuringEstimate {
  steps: EstimateStep[];
  /** Of activations in the working folder. */
  workBytes: number;
  /** Bytes that live at once. */
  memory: number;
}

/**
 * @param windows lengths of the calibration windows; empty with saved statistics
 * @param tensorBytes of the tensors as they are stored
 */
export function estimateMeasuring(
  a: Architecture,
  { linears }: BudgetPlan,
  { measure }: Budget,
  windows: readonly number[],
  rates: Rates,
  tensorBytes: ReadonlyMap<string, number>,
): MeasuringEstimate {
  const used = measure === 'weight' ? [] : measure === 'kl' ? windows.slice(0, KL_WINDOWS) : windows;
  const text: NonNullable<WindowSizes> = { tokens: used.reduce((n, w) => n + w, 0), longest: Math.max(0, ...used) };
  const perToken = text.tokens ? tokenSeconds(a, text, rates) : 0;
  const head = (2 * a.hidden * a.vocab) / rates.gemm;
  const tried = linears.flatMap((l) =>
    l.candidates.flatMap(({ stage }): PlannedSite[] => (stage ? [{ ...l, stage: roundedStage(stage) }] : [])),
  );
  const calibrated = linears.map((l): PlannedSite => ({ ...l, stage: { ...tried[0]!.stage, method: 'gptq' } })); // as large as it gets
  const rounding = tried.reduce((n, p) => n + linearSeconds(p.stage, p.out, p.in, rates), 0);
  let seconds = rounding;
  let memory = estimateMemory(a, tried, null, tensorBytes);
  if (measure === 'output') {
    seconds += tried.reduce((n, p) => n + (4 * Math.min(p.out, ROWS) * p.in ** 2) / rates.gemm, 0);
    seconds += a.layers * text.tokens * perToken + hessianSeconds(a, calibrated, text.tokens, rates);
    memory = estimateMemory(a, calibrated, text.tokens ? text : null, tensorBytes);
  } else if (measure === 'kl') {
    const once = (layer: number) => (a.layers - layer) * perToken + 2 * head + a.vocab * DIVERGENCE;
    seconds += text.tokens * (2 * a.layers * perToken + tried.reduce((n, p) => n + once(p.site.layer), 0));
    memory += 2 * [...tensorBytes.values()].reduce((n, b) => n + b, 0) + LOGITS_BYTES;
  }
  return {
    steps: [{ step: `measure candidates (${measure})`, seconds }],
    workBytes: (measure === 'kl' ? 3 : 2) * text.tokens * a.hidden * 4,
    memory,
  };
}
