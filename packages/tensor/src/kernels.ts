/**
 * What a backend implements: bare kernels. `defineBackend` (scope.ts) makes a {@link Backend} of them.
 * @module
 */
import type { Activations, AttentionOpts, GluActivation, HandleType, OutlierCount } from './backend.js';
import type { Linear } from './layouts.js';

/** A matrix as kernels see it: `rows` x `cols` elements of `buffer` from `offset` (in elements), rows `stride` apart, columns adjacent. */
export interface Mat<B> {
  readonly buffer: B;
  readonly offset: number;
  readonly rows: number;
  readonly cols: number;
  readonly stride: number;
}

/**
 * What a backend implements. `B` is its buffer type, `L` its packed weight. Shapes are already checked and outputs allocated; outputs
 * are zero-filled only where stated. Kernels may run at the call or queue; `finish` waits for the queue.
 */
export interface Kernels<B, L> {
  readonly variant: string;
  /** Default 1. */
  readonly threads?: number;
  /** Ends what outlives calls, such as worker threads. */
  dispose?(): void;
  /** Zero-filled; throws `backend/memory`. */
  allocate(type: HandleType, length: number): B;
  release(buffer: B): void;
  /** Copies `data` (row-major) into a matrix. */
  write(to: Mat<B>, type: HandleType, data: Float32Array | Uint8Array): void;
  /** Copies a matrix out, row-major. */
  read(from: Mat<B>, type: HandleType): Promise<Float32Array | Uint8Array>;
  copy(to: Mat<B>, from: Mat<B>, type: HandleType): void;
  finish(): Promise<void>;

  /** Of a linear whose input quantization is already checked. With `llm-int8`, also what `linear` counts outliers in. */
  load(linear: Linear, activations: Activations): { packed: L; bytes: number; outliers?: OutlierCount };
  unload(packed: L): void;

  gemm(out: Mat<B>, a: Mat<B>, b: Mat<B>, transposeA: boolean, transposeB: boolean, alpha: number, beta: number): void;
  syrk(h: Mat<B>, x: Mat<B>, alpha: number, beta: number): void;
  /** Returns false when not positive definite. */
  cholesky(out: Mat<B>, a: Mat<B>): boolean;
  triangularInverse(out: Mat<B>, l: Mat<B>): void;
  select(out: Mat<B>, a: Mat<B>, rows: Int32Array | null, cols: Int32Array | null): void;
  scatterAdd(into: Mat<B>, a: Mat<B>, rows: Int32Array, factors: Float32Array | null): void;
  addTo(into: Mat<B>, a: Mat<B>, alpha: number): void;

  fakeQuant(out: Mat<B>, codes: Mat<B> | null, w: Mat<B>, scales: Mat<B>, zeroPoints: Mat<B>, groupSize: number, maxCode: number): void;
  /** `errors` and `codes` cover columns [start, end). */
  obsSweep(
    w: Mat<B>,
    u: Mat<B>,
    errors: Mat<B>,
    codes: Mat<B>,
    scales: Mat<B>,
    zeroPoints: Mat<B>,
    maxCode: number,
    start: number,
    end: number,
    blockEnd: number,
  ): void;
  /** The same with the nearest of a row's entries; `tables` is [rows, entries]. */
  obsSweepTable(w: Mat<B>, u: Mat<B>, errors: Mat<B>, codes: Mat<B>, tables: Mat<B>, start: number, end: number, blockEnd: number): void;

  linear(out: Mat<B>, x: Mat<B>, w: L): void;
  embedding(out: Mat<B>, w: L, ids: Int32Array): void;
  rmsNorm(out: Mat<B>, x: Mat<B>, weight: Mat<B>, eps: number): void;
  rope(x: Mat<B>, cos: Mat<B>, sin: Mat<B>, headDim: number, interleaved: boolean, position: number): void;
  attention(out: Mat<B>, q: Mat<B>, k: Mat<B>, v: Mat<B>, opts: Required<AttentionOpts>): void;
  glu(out: Mat<B>, gate: Mat<B>, up: Mat<B>, activation: GluActivation): void;
  softmax(out: Mat<B>, x: Mat<B>): void;
}
