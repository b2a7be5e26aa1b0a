/**
 * What a recipe will cost, before any work: the size of the output (exact), processor seconds, and peak memory (an upper bound).
 *
 * Seconds count the operations of the real work and divide by rates measured now, on this backend; only the rate of reading and writing is
 * an assumption. Memory adds up what lives at the same time in each phase. The command line's tests compare size and memory with real runs.
 * @module
 */
import { dense, encodeFloats } from '@lmq/formats';
import type { Architecture } from '@lmq/model';
import { rtnLinear } from '@lmq/quant-core';
import { type Backend, createRng, type Linear, matrix } from '@lmq/tensor';
import type { Stage } from './api.js';
import { isAsymmetric, type PlannedSite } from './plan.js';

/** Reading, encoding and writing together; not measured, because trying it out would write to the user's disk. */
const DISK_BYTES_PER_SECOND = 0.5e9;

/** Arrays that are done with may add up to this before the garbage collector looks at them. */
const UNCOLLECTED_BYTES = 48e6;

/** Operations per second of a backend. */
export interface Rates {
  /** Multiply-adds counted as two, in matrix products. */
  gemm: number;
  /** Multiply-adds of attention scores and mixing counted as two, softmax included in the time. */
  attention: number;
  /** T n² operations of an X^T X update. */
  syrk: number;
  /** out in² operations of an OBS sweep with its trailing updates. */
  sweep: number;
  /** n³ / 3 each of Cholesky and triangular inverse. */
  factor: number;
  /** Weights decoded, rounded, packed and loaded. */
  round: number;
}

export interface EstimateStep {
  step: string;
  seconds: number;
}

/** What the windows of calibration look like; null: nothing is calibrated, or saved statistics are used. */
export type WindowSizes = { tokens: number; longest: number } | null;

/** Stored bytes of a linear once quantized. */
export function affineBytes(out: number, width: number, s: Stage): number {
  const groups = s.groupSize < 0 ? 1 : width / s.groupSize;
  const codes = out * Math.ceil((width * s.bits) / 8);
  const scales = out * groups * (s.scaleFormat === 'fp32' ? 4 : 2);
  const zeros = s.symmetric ? 0 : Math.ceil((out * groups * s.bits) / 8);
  const index = s.method === 'gptq' && s.actOrder && !s.staticGroups && groups > 1 ? 4 * width : 0;
  return codes + scales + zeros + index;
}

/**
 * Measures a backend for less than half a second.
 * @param now a clock in milliseconds: of the processor, where there is one, so that what else the machine does is not counted
 * @returns the rates, and how long the measured work should have taken at them: what it took longer is what warming up costs
 */
export async function measureRates(backend: Backend, now = () => performance.now()): Promise<{ rates: Rates; seconds: number }> {
  const n = 256;
  const rng = createRng(1);
  const s = backend.scope();
  let seconds = 0;
  try {
    const a = s.upload(
      matrix(
        Float32Array.from({ length: n * n }, () => rng.normal()),
        n,
        n,
      ),
    );
    const h = s.alloc(n, n);
    const time = async (operations: number, work: () => void) => {
      work();
      const runs: number[] = [];
      const end = performance.now() + 60;
      do {
        const from = now();
        work();
        await s.flush();
        runs.push(now() - from);
      } while (performance.now() < end);
      runs.sort((a, b) => a - b);
      const median = runs[runs.length >> 1]! / 1000; // real work meets the same neighbours and collections
      seconds += median * (runs.length + 1);
      return operations / median;
    };
    const out = s.alloc(n, n);
    const gemm = await time(2 * n ** 3, () => s.gemm(a, a, { transposeB: true, out }));
    const headDim = 32;
    const attention = await time(2 * n * n * n, () => s.free(s.attention(a, a, a, { heads: n / headDim, kvHeads: n / headDim, headDim })));
    const syrk = await time(n ** 3, () => s.syrk(h, a, { beta: 0 }));
    const eye = s.upload(
      matrix(
        Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0)),
        n,
        n,
      ),
    );
    const factor = await time((2 * n ** 3) / 3, () => {
      const { factor: l } = s.cholesky(eye);
      s.free(s.triangularInverse(l));
      s.free(l);
    });
    const block = 128;
    const grid = {
      scales: s.upload(matrix(new Float32Array(n).fill(0.3), n, 1)),
      zeroPoints: s.upload(matrix(new Float32Array(n).fill(8), n, 1)),
      bits: 4,
    };
    const codes = s.alloc(n, block, 'u8');
    const errors = s.alloc(n, block);
    const w = s.copy(a);
    const sweep = await time(n * block * block, () => s.obsSweep(w, eye, { start: 0, end: block, blockEnd: block, grid, codes, errors }));
    const data = encodeFloats(
      'bf16',
      Float32Array.from({ length: n * n }, () => rng.normal()),
    );
    const linear: Linear = { weight: dense('bf16', data, n, n) };
    const round = await time(n * n, () => {
      for (const l of [linear, rtnLinear(linear, {}, { bits: 4 }).linear]) backend.load(l).dispose();
    });
    return { rates: { gemm, attention, syrk, factor, sweep, round }, seconds };
  } finally {
    s.dispose();
  }
}

/** Processor seconds, phase by phase. */
export function estimateSeconds(
  a: Architecture,
  planned: readonly PlannedSite[],
  windows: WindowSizes,
  rates: Rates,
  outputBytes: number,
): EstimateStep[] {
  const gptq = planned.filter((p) => p.stage.method !== 'rtn');
  const layers = planned.length ? Math.max(...planned.map((p) => p.site.layer)) + 1 : 0;
  const steps: EstimateStep[] = [];
  if (windows && gptq.length) {
    const active = a.moe ? a.moe.topK : 1;
    const projections = 2 * a.hidden * a.headDim * (a.heads + a.kvHeads);
    const mlp = 3 * a.hidden * a.mlp.intermediate * active;
    const scores = 2 * windows.longest * a.heads * a.headDim; // 2 products of 2 operations over half the window on average
    const secondsPerToken = (2 * (projections + mlp)) / rates.gemm + scores / rates.attention;
    const sets = planned.some((p) => p.stage.trueSequential) ? 4 : 1;
    const float = planned.some((p) => isAsymmetric(p.stage)) ? sets : 0;
    const passes = layers * (sets + float) + (layers - 1);
    steps.push({ step: 'run the calibration windows through the blocks', seconds: passes * windows.tokens * secondsPerToken });
    const inputs = new Map(planned.map((p) => [p.site.input, p]));
    let sums = 0;
    for (const p of inputs.values()) {
      const updates = p.in ** 2 * windows.tokens * (p.site.expert === undefined ? 1 : active / (a.moe?.experts ?? 1));
      sums += updates / rates.syrk + (isAsymmetric(p.stage) ? (2 * updates) / rates.gemm : 0);
    }
    steps.push({ step: `accumulate Hessians${float ? ' and cross terms' : ''}`, seconds: sums });
  } else if (gptq.length) {
    const bytes = planned.reduce((sum, p) => sum + 4 * p.in ** 2, 0);
    steps.push({ step: 'read statistics', seconds: bytes / DISK_BYTES_PER_SECOND });
  }
  let quantize = 0;
  for (const { stage, out, in: n } of planned) {
    quantize += (out * n) / rates.round;
    if (stage.method === 'rtn') continue;
    const block = Math.min(stage.blockSize, n);
    quantize +=
      (2 * n ** 3) / 3 / rates.factor + (out * n * block) / rates.sweep + (out * n * n) / rates.gemm + (2 * 256 * n * n) / rates.gemm;
    if (isAsymmetric(stage)) quantize += ((5 * n ** 3) / 3 + out * n * n + 2 * 256 * n * n) / rates.gemm;
  }
  steps.push({ step: 'quantize', seconds: quantize });
  steps.push({ step: 'read and write', seconds: outputBytes / DISK_BYTES_PER_SECOND });
  return steps;
}

/** Bytes that live at once on top of the process as it is, at most. */
export function estimateMemory(
  a: Architecture,
  planned: readonly PlannedSite[],
  windows: WindowSizes,
  tensorBytes: ReadonlyMap<string, number>,
): number {
  const f32 = 4;
  const calibrates = planned.some((p) => p.stage.method !== 'rtn');
  const asymmetric = planned.some((p) => isAsymmetric(p.stage));
  const most = (bytes: (layer: number) => number) => Math.max(0, ...Array.from({ length: a.layers }, (_, l) => bytes(l)));
  const block = most((layer) => a.sites.reduce((sum, s) => sum + (s.layer === layer ? (tensorBytes.get(s.tensor) ?? 0) : 0), 0));
  const blocks = asymmetric && planned.some((p) => p.stage.trueSequential) ? 2 : 1;
  let sums = 0;
  let activations = 0;
  if (calibrates && windows) {
    const inputs = [...new Map(planned.map((p) => [p.site.input, p])).values()];
    const matrices = asymmetric ? 2 : 1; // with the cross term
    sums = most((layer) => inputs.reduce((sum, p) => sum + (p.site.layer === layer ? matrices * p.in ** 2 * f32 : 0), 0));
    const inputWidth = 2 * a.hidden + a.heads * a.headDim + a.mlp.intermediate;
    const width = 6 * a.hidden + 3 * a.heads * a.headDim + 3 * a.mlp.intermediate + (asymmetric ? inputWidth : 0);
    activations = windows.longest * width * f32;
  }
  let work = 0; // the largest linear: decoded weights, codes, packed result; for GPTQ also H on both sides, its factor and inverse
  for (const { stage, out, in: n } of planned) {
    const squares = stage.method === 'rtn' ? 0 : 4 + (isAsymmetric(stage) ? 2 : 0) + (windows ? 0 : 1); // the cross term; a sum as read
    const own = (stage.method === 'rtn' ? 4 : 5) * out * n * f32 + squares * n * n * f32;
    work = Math.max(work, own);
  }
  const embedding = calibrates && windows ? 2 * (tensorBytes.get(a.tensors.embedding) ?? 0) : 0;
  const write = 3 * Math.max(0, ...tensorBytes.values());
  const garbage = Math.min(work, UNCOLLECTED_BYTES);
  return Math.max(2 * blocks * block + sums + Math.max(activations, work) + garbage, embedding, write);
}
