/**
 * What a block's linears read in the float model, for GPTAQ: the float block runs on the float model's activations, and its linears' inputs
 * are kept while the same window runs through the quantized model.
 *
 * Experts: a router may send a token elsewhere in the quantized model, and then the float model has no input for it. Routes are those of the
 * quantized model, for they decide which tokens an expert will serve: its target is what its float weights say about the float model's
 * state of those tokens.
 * @module
 */
import { type Block, type BlockContext, blockForward, type Site } from '@lmq/model';
import type { Handle, Scope } from '@lmq/tensor';

/** The float model's inputs of one window. */
export interface FloatInputs {
  /** Output of the block, in the scope that the inputs live in. */
  output: Handle;
  /** Where the quantized model sends the tokens: [tokens, topK]. Experts' inputs need it. */
  route(top: Int32Array): void;
  /** The input of that name, [tokens, width]; made in `t`, or kept since the pass. */
  of(t: Scope, input: string): Handle;
}

/**
 * Runs the float block.
 * @param block with its original weights
 * @param x [tokens, hidden] of the float model
 * @param wanted names of inputs that will be asked for
 */
export async function floatPass(
  s: Scope,
  block: Block,
  x: Handle,
  context: Pick<BlockContext, 'architecture' | 'rope'>,
  wanted: ReadonlySet<string>,
): Promise<FloatInputs> {
  const experts = new Map<string, Site>();
  for (const { site } of block.linears.values()) if (site.expert !== undefined && wanted.has(site.input)) experts.set(site.input, site);
  const router = experts.size ? block.at('router').site.input : undefined;
  const kept = new Map<string, Handle>();
  const output = await blockForward(s, block, x, {
    ...context,
    tap: (input, seen) => {
      if (!experts.has(input) && (wanted.has(input) || input === router)) kept.set(input, s.copy(seen));
    },
  });
  let routes: ArrayLike<number> = [];
  return {
    output,
    route(top) {
      routes = top;
    },
    of(t, input) {
      const own = kept.get(input);
      if (own) return own;
      const { expert, role } = experts.get(input)!;
      const { moe, mlp } = context.architecture;
      const rows: number[] = [];
      for (let i = 0; i < routes.length; i++) if (routes[i] === expert) rows.push(Math.floor(i / moe!.topK));
      const state = t.select(kept.get(router!)!, rows);
      if (role !== 'down') return state;
      return t.glu(t.linear(state, block.at('gate', expert).loaded), t.linear(state, block.at('up', expert).loaded), mlp.activation);
    },
  };
}
