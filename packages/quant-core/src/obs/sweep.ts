/**
 * Blocked optimal brain surgeon sweep: quantize column after column, and spread each column's error over the columns still to come
 * (Frantar et al. 2023, GPTQ, algorithm 1).
 *
 * Columns go in blocks: within a block errors are spread at once, the rest of the matrix gets them with one matrix product per block.
 * Blocks only change the order of float operations. O(out · in²) multiply-adds. The loss is summed in float64.
 * @module
 */
import { createPhase, type Handle, LmqError, type LongCallOpts, type Scope } from '@lmq/tensor';

/**
 * Scale and zero point of each row, [rows, 1] each, or a table for each row, [rows, entries]; made in the sweep's scope, and freed by the
 * sweep.
 */
export type ColumnGrid = { scales: Handle; zeroPoints: Handle } | { tables: Handle };

export interface ObsQuantizeOpts extends LongCallOpts {
  /** Of a code, 1 to 8. */
  bits: number;
  /** Columns per block. Default 128. */
  blockSize?: number;
  /** Group of each column, in sweep order. Columns of one grid call lie side by side; a group may come back later. */
  groupOf: Int32Array;
  /** The grid of a group, asked for when the sweep reaches column `start`; `w` then holds current weights. */
  grid: (group: number, start: number) => ColumnGrid | Promise<ColumnGrid>;
  /** Called before each block, when every earlier error has reached all of `w`. */
  beforeBlock?: (start: number, end: number) => void | Promise<void>;
  /**
   * End a block early rather than cut a group that begins inside it, so that `grid` sees the group's weights with all earlier errors.
   * Default true.
   */
  wholeGroups?: boolean;
}

/**
 * Sweeps a matrix.
 * @param w [rows, cols], overwritten: holds the quantized weights afterwards
 * @param u [cols, cols] upper triangular, H⁻¹ = Uᵀ U
 * @returns codes, u8 [rows, cols] of the scope, and `loss` = Σ e² / 2 with e = (w - q) / U_ii, which equals tr(E H Eᵀ) / 2 for the
 * (damped) H behind `u`
 * @throws LmqError `argument/shape`, `argument/option`, or the reason of the aborted signal
 */
export async function obsQuantize(s: Scope, w: Handle, u: Handle, opts: ObsQuantizeOpts): Promise<{ codes: Handle; loss: number }> {
  const { rows, cols } = w;
  const { bits, blockSize = 128, groupOf, wholeGroups = true } = opts;
  if (!(Number.isInteger(blockSize) && blockSize > 0)) {
    throw new LmqError('argument/option', 'blockSize is out of range', {
      op: 'obsQuantize',
      expected: 'a positive integer',
      found: blockSize,
    });
  }
  if (groupOf.length !== cols) {
    throw new LmqError('argument/shape', 'groupOf does not fit w', { op: 'obsQuantize', expected: cols, found: groupOf.length });
  }
  const all: [number, number] = [0, rows];
  const codes = s.alloc(rows, cols, 'u8');
  const errors = s.alloc(rows, Math.min(blockSize, cols));
  const phase = createPhase('sweep', cols, 'columns', opts);
  let loss = 0;
  phase(0);
  for (let from = 0; from < cols; ) {
    const to = blockEnd(from, Math.min(from + blockSize, cols), groupOf, wholeGroups);
    await opts.beforeBlock?.(from, to);
    for (let start = from; start < to; ) {
      const end = Math.min(runEnd(start, groupOf), to);
      const grid = await opts.grid(groupOf[start]!, start);
      const c = s.view(codes, all, [start, end]);
      const e = s.view(errors, all, [start - from, end - from]);
      s.obsSweep(w, u, { start, end, blockEnd: to, grid: { ...grid, bits }, codes: c, errors: e });
      for (const h of [c, e, ...Object.values(grid)]) s.free(h);
      start = end;
    }
    const done = s.view(errors, all, [0, to - from]);
    if (to < cols) {
      const rest = s.view(w, all, [to, cols]);
      const spread = s.view(u, [from, to], [to, cols]);
      s.gemm(done, spread, { alpha: -1, beta: 1, out: rest });
      s.free(rest);
      s.free(spread);
    }
    const { data } = await s.read(done);
    s.free(done);
    for (let i = 0; i < data.length; i++) loss += data[i]! * data[i]!;
    await s.flush();
    phase(to);
    from = to;
  }
  s.free(errors);
  return { codes, loss: loss / 2 };
}

/** One past the last neighbour of `start` in the same group. */
function runEnd(start: number, groupOf: Int32Array): number {
  let end = start + 1;
  while (end < groupOf.length && groupOf[end] === groupOf[start]) end++;
  return end;
}

/** Where the block that starts at `from` ends, at most at `limit`. */
function blockEnd(from: number, limit: number, groupOf: Int32Array, wholeGroups: boolean): number {
  if (!wholeGroups || limit === groupOf.length || groupOf[limit] !== groupOf[limit - 1]) return limit;
  let begin = limit - 1;
  while (begin > from && groupOf[begin - 1] === groupOf[limit]) begin--;
  return begin > from ? begin : limit; // a group wider than a block has to be cut
}
