/**
 * Backend: where arithmetic happens. Algorithms are written once against {@link Scope} and run on every backend.
 *
 * ```ts
 * const s = backend.scope();
 * const h = s.upload(matrix);
 * const y = s.gemm(h, h, { transposeB: true });
 * const result = await s.read(y);
 * s.dispose();                       // frees h and y
 * ```
 *
 * Ops check shapes and throw at the call. Arithmetic may run at the call or later; `flush()` and `read()` are the only waits. Output
 * handles belong to the scope whose op made them. Float handles are float32 matrices; every op takes views with any row stride.
 * @module
 */
import type { Linear } from './layouts.js';
import type { NdArray, Tensor, TypedArray } from './ndarray.js';

/** Element types of a handle: float32, unsigned byte. */
export type HandleType = 'f32' | 'u8';

/** A matrix in a backend's memory. Opaque: only the scope that made it (or was given it by `keep`) frees it. */
export interface Handle {
  readonly type: HandleType;
  readonly rows: number;
  readonly cols: number;
}

/** A weight packed for a backend. Belongs to the caller, not to a scope. */
export interface LoadedLinear {
  readonly out: number;
  readonly in: number;
  /** Bytes it takes in the backend's memory. */
  readonly bytes: number;
  /** Of a linear with `llm-int8` input: counted by every product. */
  readonly outliers?: Readonly<OutlierCount>;
  dispose(): void;
}

/** Columns of inputs that were multiplied in float32, of all columns; a product with an input of n columns counts n. */
export interface OutlierCount {
  columns: number;
  of: number;
}

export interface ScopeOpts {
  /** `flush` and `read` throw its reason once it is aborted. */
  signal?: AbortSignal;
}

export interface Backend {
  /** Names the arithmetic: results are the same bytes for the same variant. `js`, `wasm-simd128` … */
  readonly variant: string;
  /** Threads that share the arithmetic, the calling one included. Results do not depend on it. */
  readonly threads: number;
  scope(opts?: ScopeOpts): Scope;
  /**
   * Packs a weight. Every layout works; those without a kernel are decoded a tile at a time when multiplied.
   * @throws LmqError `backend/memory`; `argument/option` for an `input` quantization that is not one, `backend/unsupported` for one that the
   * weight is not made for
   */
  load(linear: Linear, opts?: LoadOpts): LoadedLinear;
  /** Ends worker threads, if there are any; the calling thread does the work from then on. */
  dispose(): void;
}

/**
 * How a linear's input meets quantized codes. `float32`: exact up to float order. `int16`, `int8`: the input of each token is rounded to
 * symmetric integers and multiplied with the codes in integer arithmetic, which is faster. int16 shares a scale per token
 * (absmax / 32767); int8 one per 32 columns (absmax / 127), as llama.cpp's Q8_0. Affine weights and GGUF blocks have codes; all other weights
 * stay float32. A linear that says itself how its input is quantized (`Linear.input`) is multiplied so, whatever is chosen here.
 */
export type Activations = 'float32' | 'int16' | 'int8';

export interface LoadOpts {
  /** Default `float32`. */
  activations?: Activations;
}

export interface GemmOpts {
  transposeA?: boolean;
  transposeB?: boolean;
  /** Default 1. */
  alpha?: number;
  /** Factor of the earlier contents of `out`; needs `out`. Default 0. */
  beta?: number;
  /** Written instead of a new handle; may be a view. */
  out?: Handle;
}

/** Per-row, per-group affine grid: code = clamp(round_half_even(w / scale) + zero, 0, 2^bits - 1), value = (code - zero) * scale. */
export interface AffineGrid {
  /** [rows, groups] */
  scales: Handle;
  /** [rows, groups], integers stored as float32 */
  zeroPoints: Handle;
  bits: number;
}

/**
 * Any values: the nearest entry of the row's table, by the float32 distance |w - entry|; of entries that are equally near, the first. Entries
 * stand in the order of their codes, scaled already.
 */
export interface TableGrid {
  /** [rows, entries], at most 2^bits of them, finite */
  tables: Handle;
  bits: number;
}

export interface SweepOpts {
  /** First and one past the last column to quantize in this call. */
  start: number;
  end: number;
  /** Error is fed into columns up to here; the caller carries it further with a gemm on `errors`. */
  blockEnd: number;
  /** Constant within the call: [rows, 1] scales and zero points, or a table for each row. */
  grid: AffineGrid | TableGrid;
  /** u8 [rows, end - start]: receives the codes. */
  codes: Handle;
  /** f32 [rows, end - start]: receives (w - q) / U[i,i]. */
  errors: Handle;
}

export interface AttentionOpts {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Factor of q k^T. Default 1 / sqrt(headDim). */
  scale?: number;
  /** Position of the first query; query i sees keys 0 … position + i. Default 0. */
  position?: number;
  /** Sliding window: query i sees only the last `window` of those keys. Default: all. */
  window?: number;
}

/** The function applied to the gate of a gated linear unit. `gelu-tanh`: the tanh approximation, 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))). */
export type GluActivation = 'silu' | 'gelu-tanh';

export interface RopeOpts {
  headDim: number;
  /** `half`: element i pairs with i + rotary/2 (Hugging Face). `interleaved`: 2i with 2i + 1 (GGUF llama). */
  style: 'half' | 'interleaved';
  /** Position of the first row. Default 0. */
  position?: number;
}

/** Memory and ops. All handles made through a scope are freed by `dispose` unless moved by `keep`. */
export interface Scope extends Disposable {
  readonly backend: Backend;

  // ---- memory
  /** Copies a tensor in; 1-D becomes [1, n]. Float32Array → f32, Uint8Array → u8. */
  upload(t: Tensor<TypedArray>): Handle;
  /** Zero-filled. */
  alloc(rows: number, cols: number, type?: HandleType): Handle;
  /** A window onto rows [r0, r1) and columns [c0, c1), sharing memory. Dies with the handle it looks at. */
  view(h: Handle, rows: readonly [number, number], cols?: readonly [number, number]): Handle;
  /** The same memory in another shape of equal size. Not of a view. Dies with the handle it looks at. */
  reshape(h: Handle, rows: number, cols: number): Handle;
  copy(h: Handle): Handle;
  /** Overwrites a handle's contents. */
  write(h: Handle, t: Tensor<TypedArray>): void;
  /** Copies out, after everything before it has run. */
  read(h: Handle): Promise<NdArray<Float32Array>>;
  readCodes(h: Handle): Promise<NdArray<Uint8Array>>;
  /** Frees one handle before the scope ends. */
  free(h: Handle): void;
  /** Moves a handle to another scope of the same backend. */
  keep(h: Handle, to: Scope): Handle;
  /** Waits for the arithmetic, lets the event loop run when it has not for a while, and checks `signal`. Call every ~50 ms of work. */
  flush(): Promise<void>;
  dispose(): void;

  // ---- linear algebra
  /** alpha op(A) op(B) + beta out. */
  gemm(a: Handle, b: Handle, opts?: GemmOpts): Handle;
  /** h ← beta h + alpha X^T X, both triangles. h [n, n], x [tokens, n]. */
  syrk(h: Handle, x: Handle, opts?: { alpha?: number; beta?: number }): void;
  /** Lower L with A = L L^T (upper triangle zero); A is read from its lower triangle. `ok` is false when A is not positive definite. */
  cholesky(a: Handle): { factor: Handle; ok: boolean };
  /** Inverse of a lower triangular matrix. */
  triangularInverse(l: Handle): Handle;
  /** Gathers rows and columns: out[i][j] = a[rows[i]][cols[j]]. Absent: all, in order. */
  select(a: Handle, rows?: ArrayLike<number>, cols?: ArrayLike<number>): Handle;
  /** into[rows[i]] += factors[i] * a[i]. Rows may repeat. */
  scatterAdd(into: Handle, a: Handle, rows: ArrayLike<number>, factors?: ArrayLike<number>): void;
  /** into += alpha * a. */
  addTo(into: Handle, a: Handle, alpha?: number): void;

  // ---- quantization
  /** Quantizes and decodes by groups of `groupSize` columns (the last may be shorter); `codes` (u8, w's shape) also receives the codes. */
  fakeQuant(w: Handle, grid: AffineGrid, groupSize: number, codes?: Handle): Handle;
  /**
   * OBS sweep (Frantar et al. 2023, GPTQ algorithm 1, inner loop): for each column i in [start, end): q = grid(w_i), e = (w_i - q) /
   * U[i,i], w_j -= e U[i,j] for j in (i, blockEnd), w_i = q. U [in, in] is upper triangular, H^-1 = U^T U. Overwrites w in place.
   */
  obsSweep(w: Handle, u: Handle, opts: SweepOpts): void;

  // ---- transformer
  /** x W^T + bias. x [tokens, in] → [tokens, out]. */
  linear(x: Handle, w: LoadedLinear): Handle;
  /** Rows of a loaded weight, decoded: [ids.length, in]. */
  embedding(w: LoadedLinear, ids: ArrayLike<number>): Handle;
  /** x / sqrt(mean(x^2) + eps) * weight, per row. weight [1, cols]. */
  rmsNorm(x: Handle, weight: Handle, eps: number): Handle;
  /** Rotates x [tokens, heads * headDim] in place. cos, sin: [context, rotary / 2]. */
  rope(x: Handle, cos: Handle, sin: Handle, opts: RopeOpts): void;
  /** Causal grouped-query attention. q [tokens, heads * headDim]; k, v [position + tokens, kvHeads * headDim] → q's shape. */
  attention(q: Handle, k: Handle, v: Handle, opts: AttentionOpts): Handle;
  /** activation(gate) * up: SwiGLU with `silu` (the default), GeGLU with `gelu-tanh`. */
  glu(gate: Handle, up: Handle, activation?: GluActivation): Handle;
  /** Per row. */
  softmax(x: Handle): Handle;
}
