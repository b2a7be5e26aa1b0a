/**
 * What a transformer is to lmq: an {@link Architecture} (data), {@link Block}s (weights in a backend), a {@link Model} (all of it).
 * @module
 */
import type { Backend, GluActivation, Handle, Linear, LoadedLinear, OutlierCount, Scope } from '@lmq/tensor';

/** What a linear inside a block does. */
export type Role = 'q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down' | 'router';

/** One linear: the unit that methods quantize. All of them lie inside blocks but the head, see `headSite`. */
export interface Site {
  /** Hugging Face module name, whatever the file's names are, e.g. `model.layers.0.self_attn.q_proj`. */
  name: string;
  /** Of its block; of the head, the number of blocks. */
  layer: number;
  role: Role | 'head';
  expert?: number;
  /** Name of the tensor in the checkpoint. */
  tensor: string;
  /** Rows [from, to) of that tensor once its leading axes are merged: one expert of a stacked tensor, or one part of a fused one (Phi-3). */
  slice?: [from: number, to: number];
  /** Name of the bias tensor. */
  bias?: string;
  /** Sites with equal input read the same activations, e.g. `layers.0.qkv`, `layers.0.experts.3.down`. */
  input: string;
}

/** How RoPE's frequencies are stretched over a longer context; see `ropeFrequencies`. Contexts count positions. */
export type RopeScaling =
  | { type: 'linear'; factor: number }
  | { type: 'llama3'; factor: number; lowFrequency: number; highFrequency: number; originalContext: number }
  | {
      type: 'yarn';
      factor: number;
      originalContext: number;
      betaFast: number;
      betaSlow: number;
      /** Whether the ends of the ramp are rounded outwards to whole indices. */
      truncate: boolean;
      /** Factor of cos and sin. */
      magnitude: number;
    }
  /** Every frequency divided by its own factor: how GGUF stores llama3. */
  | { type: 'factors'; factors: readonly number[] };

/** RoPE's frequencies: theta^(-2i / rotary), scaled or not. */
export interface RopeKind {
  theta: number;
  scaling?: RopeScaling;
}

/** A Llama-style decoder as plain data. Sizes count elements. */
export interface Architecture {
  /** `model_type` of config.json: `llama`, `mistral`, `mixtral`, `qwen2`, `qwen3`, `gemma3_text` or `phi3`. */
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
  /** `plusOne`: stored norm weights are differences from 1 (Gemma); blocks and models add it while loading. */
  norm: { eps: number; plusOne: boolean };
  /** `scale`: factor of q k^T. `windows`: by layer, how many last keys a query sees, its own included; null: all. */
  attention: { scale: number; windows: (number | null)[] };
  /**
   * `half`: element i of a head pairs with i + rotary / 2 (Hugging Face). `interleaved`: 2i with 2i + 1 (GGUF llama). Only the first
   * `rotary` elements of a head turn. `local`: for the layers that have a window, where they differ from the others (Gemma 3).
   */
  rope: RopeKind & { style: 'half' | 'interleaved'; rotary: number; local?: RopeKind };
  /** Factor of the embeddings, already rounded to the model's own number format (Gemma: sqrt(hidden)); absent: 1. Use `embedTokens`. */
  embeddingScale?: number;
  /** Width, per expert when there are experts. `silu`: SwiGLU, `gelu-tanh`: GeGLU. */
  mlp: { activation: GluActivation; intermediate: number };
  /** Softmax router; the weights of the `topK` chosen experts are normalised to sum 1. */
  moe?: { experts: number; topK: number };
  tensors: {
    embedding: string;
    finalNorm: string;
    /** Equal to `embedding` when tied. */
    head: string;
    /** Norm weights by layer: of the two halves' inputs. */
    attentionNorm: string[];
    mlpNorm: string[];
    /** Of the halves' outputs, before they join the residual stream (Gemma 3). */
    attentionPostNorm?: string[];
    mlpPostNorm?: string[];
    /** Of each head's queries and keys, before RoPE (Qwen 3, Gemma 3). */
    queryNorm?: string[];
    keyNorm?: string[];
  };
  /** In the order in which a forward pass reaches them. */
  sites: Site[];
  /** Oddities that a person should know of and that change nothing. */
  warnings: string[];
}

/** cos and sin of the rotation angles, [positions, rotary / 2] each. Belongs to the caller. */
export interface RopeTables {
  readonly cos: Handle;
  readonly sin: Handle;
  /** Of layers with a window, where theirs differ. */
  readonly local?: { readonly cos: Handle; readonly sin: Handle };
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

/** What a backward pass through a block needs besides its input and the gradient of its output. */
export interface BackwardContext extends Pick<BlockContext, 'architecture' | 'rope'> {
  /**
   * Sees the gradient [out, in] of the weight of each linear that a token reached, the last linear of the block first. `gradient` is freed when
   * the call, or the promise that it returns, is over. Absent: none is computed.
   */
  onWeightGradient?: (site: Site, gradient: Handle) => void | Promise<void>;
  /** Sees the gradient of the weight of each norm, as it is multiplied with. */
  onNormGradient?: (norm: keyof BlockNorms, gradient: Float32Array) => void;
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

/** Norm weights of a block, [1, width] each, ready to multiply with; see `Architecture.tensors` for which are there. */
export interface BlockNorms {
  readonly attention: Handle;
  readonly mlp: Handle;
  readonly attentionPost?: Handle;
  readonly mlpPost?: Handle;
  readonly query?: Handle;
  readonly key?: Handle;
}

/** The weights of one transformer block in a backend. Belongs to the caller. */
export interface Block<S extends LoadedSite = BlockSite> {
  readonly layer: number;
  readonly backend: Backend;
  readonly norms: BlockNorms;
  /** By site name. */
  readonly linears: ReadonlyMap<string, S>;
  /** Bytes in the backend's memory. */
  readonly bytes: number;
  /** @throws LmqError `argument/option` when the block has none */
  at(role: Site['role'], expert?: number): S;
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
  /** Where linears have `llm-int8` inputs: what share of columns was multiplied in float32 so far, over all of them. */
  readonly outliers?: OutlierCount;
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

/** One turn of a conversation. Templates may read more fields, such as `tool_calls`. */
export interface ChatMessage {
  /** Usually `system`, `user`, `assistant` or `tool`. */
  role: string;
  content: unknown;
  [field: string]: unknown;
}

export interface ChatOpts {
  /** Ends with what begins the assistant's next turn. Default false. */
  addGenerationPrompt?: boolean;
  /** JSON schemas of functions, for templates that tell the model of them. */
  tools?: readonly unknown[];
  /** More variables for the template, e.g. `{ enable_thinking: false }`. */
  variables?: Readonly<Record<string, unknown>>;
  /** Which of several named templates. Default: `tool_use` when there are tools and a template of that name, else `default`. */
  name?: string;
  /** What a template that writes the date takes for now, in UTC. Default: the present. */
  now?: Date;
}

/** Text to token ids and back. */
export interface Tokenizer {
  /** Without special tokens unless `bos` asks for the begin token; names of special tokens inside `text` become those tokens. */
  encode(text: string, opts?: { bos?: boolean }): number[];
  /**
   * Ids of a conversation in the form that the model was trained on, begin token included where the template has one. Absent when the
   * tokenizer comes without a chat template.
   * @throws LmqError `argument/value` when the template refuses the messages, `tokenizer/unsupported` when it cannot be read
   */
  chat?(messages: readonly ChatMessage[], opts?: ChatOpts): number[];
  /** Special tokens are left out, and ids that stand for nothing. */
  decode(ids: ArrayLike<number>): string;
  /** Begin token. */
  readonly bos?: number;
  /** Whether the model wants `bos` before a text: there is one, and the files do not say otherwise. */
  readonly addBos: boolean;
  /** End tokens: generation stops at any of them. */
  readonly eos: readonly number[];
  /** Number of ids. */
  readonly size: number;
}
