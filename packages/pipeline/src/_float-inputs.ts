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
import type { GluActivation, Handle, Scope } from '@lmq/tensor';

/** The float model's inputs of one window. */
export interface FloatInputs {
  /** Output of the block, in the scope that the inputs live in. */
  output: Handle;
  /** Where the quantized model sends the tokens: [tokens, topK]. Experts' inputs need it. */
  route(top: Int32Array): void;
  /**
   * The input of that name, [tokens, width]; made in `t`, or kept since the pass.
   * @param everyToken as if every token were sent to its expert
   */
  of(t: Scope, input: string, everyToken?: boolean): Handle;
}

/** What a linear of an expert reads when these are the router's inputs of its tokens, in `t`; for gate and up they are what it reads. */
export function expertInput(t: Scope, block: Block, { role, expert }: Site, states: Handle, activation: GluActivation): Handle {
  if (role !== 'down') return states;
  return t.glu(t.linear(states, block.at('gate', expert).loaded), t.linear(states, block.at('up', expert).loaded), activation);
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
    of(t, input, everyToken = false) {
      const own = kept.get(input);
      if (own) return own;
      const site = experts.get(input)!;
      const { moe, mlp } = context.architecture;
      const states = kept.get(router!)!;
      const rows: number[] = [];
      for (let i = 0; i < routes.length; i++) if (routes[i] === site.expert) rows.push(Math.floor(i / moe!.topK));
      return expertInput(t, block, site, everyToken ? states : t.select(states, rows), mlp.activation);
    },
  };
}
