/**
 * What a transformer is to lmq: an {@link Architecture} (data), {@link Block}s (weights in a backend), a {@link Model} (all of it).
 * @module
 */
import type { Backend, Handle, Linear, LoadedLinear, Scope } from '@lmq/tensor';

/** What a linear inside a block does. */
export type Role = 'q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down' | 'router';

/** One linear inside a block: the unit that methods quantize. */
export interface Site {
  /** Hugging Face module name, whatever the file's names are, e.g. `model.layers.0.self_attn.q_proj`. */
  name: string;
  layer: number;
  role: Role;
  expert?: number;
  /** Name of the tensor in the checkpoint. */
  tensor: string;
  /** Rows [from, to) of that tensor once its leading axes are merged: one expert of a stacked tensor. */
  slice?: [from: number, to: number];
  /** Name of the bias tensor. */
  bias?: string;
  /** Sites with equal input read the same activations, e.g. `layers.0.qkv`, `layers.0.experts.3.down`. */
  input: string;
}

/** A Llama-style decoder as plain data. Sizes count elements. */
export interface Architecture {
  /** `llama`, `mistral` or `mixtral`. */
  family: string;
  layers: number;
  hidden: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocab: number;
  /** Most positions that the model was made for. */
  context: number;
  /** True when the head is the embedding matrix. */
  tied: boolean;
  norm: { eps: number };
  /** `half`: element i of a head pairs with i + headDim / 2 (Hugging Face). `interleaved`: 2i with 2i + 1 (GGUF llama). */
  rope: { theta: number; style: 'half' | 'interleaved' };
  /** SwiGLU width, per expert when there are experts. */
  mlp: { kind: 'swiglu'; intermediate: number };
  /** Softmax router; the weights of the `topK` chosen experts are normalised to sum 1. */
  moe?: { experts: number; topK: number };
  tensors: {
    embedding: string;
    finalNorm: string;
    /** Equal to `embedding` when tied. */
    head: string;
    /** Norm weights by layer. */
    attentionNorm: string[];
    mlpNorm: string[];
  };
  /** In the order in which a forward pass reaches them. */
  sites: Site[];
  /** Oddities that a person should know of and that change nothing. */
  warnings: string[];
}

/** cos and sin of the rotation angles, [positions, headDim / 2] each. Belongs to the caller. */
export interface RopeTables {
  readonly cos: Handle;
  readonly sin: Handle;
  readonly positions: number;
  dispose(): void;
}

/** Keys and values of one layer. */
export interface LayerCache {
  /** Positions that are filled. */
  readonly length: number;
  /**
   * Adds rows [tokens, kvHeads * headDim] at `position` and returns views of everything so far, made in `s`.
   * @throws LmqError `argument/value` when `position` is not `length`, or past the capacity
   */
  append(s: Scope, keys: Handle, values: Handle, position: number): { keys: Handle; values: Handle };
}

/** Keys and values of all layers, float32. Belongs to the caller. */
export interface KvCache {
  readonly capacity: number;
  /** Positions that every layer has. */
  readonly length: number;
  readonly bytes: number;
  readonly layers: readonly LayerCache[];
  dispose(): void;
}

/** Sees the input of linears: `input` as in {@link Site}, `x` [tokens, width]. `x` is freed after the call returns: use or copy it in the call. */
export type Tap = (input: string, x: Handle) => void;

/** Sees which experts each token took: `top` is [tokens, topK] row-major, best first. */
export type OnRoutes = (layer: number, top: Int32Array) => void;

/** What a block needs besides its input. */
export interface BlockContext {
  architecture: Architecture;
  rope: RopeTables;
  /** Position of the first row. Default 0; anything else needs `cache`. */
  position?: number;
  cache?: LayerCache;
  tap?: Tap;
  onRoutes?: OnRoutes;
}

/** A linear in a backend. */
export interface LoadedSite {
  readonly site: Site;
  readonly loaded: LoadedLinear;
}

/** A linear in a backend, and as it is stored. */
export interface BlockSite extends LoadedSite {
  readonly linear: Linear;
}

/** The weights of one transformer block in a backend. Belongs to the caller. */
export interface Block<S extends LoadedSite = BlockSite> {
  readonly layer: number;
  readonly backend: Backend;
  readonly norms: { readonly attention: Handle; readonly mlp: Handle };
  /** By site name. */
  readonly linears: ReadonlyMap<string, S>;
  /** Bytes in the backend's memory. */
  readonly bytes: number;
  /** @throws LmqError `argument/option` when the block has none */
  at(role: Role, expert?: number): S;
  /** Puts another weight in a site's place and frees the old one. @throws LmqError `argument/option`, `argument/shape` */
  setLinear(name: string, linear: Linear): void;
  dispose(): void;
}

export interface ForwardOpts {
  /** Continues after the positions that it holds, and adds these. */
  cache?: KvCache;
  tap?: Tap;
  onRoutes?: OnRoutes;
  /** Only the last row of the result. Default false. */
  lastOnly?: boolean;
}

/** A whole model, resident in a backend. Belongs to the caller. */
export interface Model {
  readonly architecture: Architecture;
  readonly backend: Backend;
  /** Bytes of weights in the backend's memory. */
  readonly bytes: number;
  readonly blocks: readonly Block<LoadedSite>[];
  /**
   * Next-token logits [ids.length, vocab], or [1, vocab] with `lastOnly`, made in `s`.
   * @throws LmqError `argument/value` when ids are empty, out of range, or leave the context
   */
  forward(s: Scope, ids: ArrayLike<number>, opts?: ForwardOpts): Promise<Handle>;
  /** The same up to the head: final normalised states [ids.length, hidden]. With `head`, logits can be made a few rows at a time. */
  hidden(s: Scope, ids: ArrayLike<number>, opts?: ForwardOpts): Promise<Handle>;
  /** Logits of rows of `hidden`. */
  head(s: Scope, states: Handle): Handle;
  /** @throws LmqError `argument/option` when `tokens` leaves the context */
  createCache(tokens: number): KvCache;
  dispose(): void;
}

/** Text to token ids and back. */
export interface Tokenizer {
  /** Without special tokens unless `bos` asks for the begin token; names of special tokens inside `text` become those tokens. */
  encode(text: string, opts?: { bos?: boolean }): number[];
  /** Special tokens are left out, and ids that stand for nothing. */
  decode(ids: ArrayLike<number>): string;
  /** Begin token. */
  readonly bos?: number;
  /** End tokens: generation stops at any of them. */
  readonly eos: readonly number[];
  /** Number of ids. */
  readonly size: number;
}
