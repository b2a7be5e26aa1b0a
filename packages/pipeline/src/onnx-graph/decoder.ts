/**
 * A decoder as an ONNX graph, from its {@link Architecture}: the computation of `Model.forward` of @lmq/model.
 *
 * Inputs, as transformers.js names and feeds them: `input_ids` [batch, tokens], `attention_mask` [batch, past + tokens],
 * `position_ids` [batch, tokens], all int64, and `past_key_values.<layer>.key` and `.value` [batch, kvHeads, past, headDim], float32, past = 0
 * for the first run. Outputs: `logits` [batch, tokens, vocab], and `present.<layer>.key` and `.value` with the tokens added.
 *
 * Inside, the residual stream is [batch * tokens, hidden]: only attention looks at sequences. What is not in ONNX's standard is in both
 * onnxruntime-node and the WebAssembly of onnxruntime-web, from version 1.22 on: MatMulNBits (8 bits: from 1.23), GroupQueryAttention with a
 * bias, RotaryEmbedding, FastGelu.
 * @module
 */
import type { Checkpoint, OnnxGraph } from '@lmq/checkpoints';
import { decode } from '@lmq/formats';
import { type Architecture, headSite, type Site } from '@lmq/model';
import { createPhase, type LongCallOpts } from '@lmq/tensor';
import { type AttentionShared, attention } from './_attention.js';
import { type Builder, createBuilder } from './_builder.js';
import { bytesOf, checkTensor, createSource, linear, multiply, type NBits, vector } from './_linear.js';
import { attentionRun } from './_mask.js';
import { mlp } from './_mlp.js';
import { moe } from './_moe.js';
import { rmsNorm } from './_norm.js';
import { ropeAngles } from './_rope.js';

export { OPSETS as ONNX_OPSETS } from './_builder.js';
export type { NBits } from './_linear.js';

export interface OnnxDecoderOpts extends LongCallOpts {
  /** Affine weights of 4 and 8 bits become `MatMulNBits`, plain ones float32. */
  checkpoint: Checkpoint;
  architecture: Architecture;
  /** Linears by name that will be quantized: for a look at the graph before the work. */
  planned?: ReadonlyMap<string, NBits>;
}

/**
 * Builds the graph. Quantized weights are read once to see what they need; the bytes of all are read when the graph's tensors are asked for
 * them.
 * @throws LmqError `export/unsupported` for what ONNX cannot hold, naming the linear; `model/*` for weights that the architecture does not
 * describe; the abort reason of `signal`
 */
export async function onnxDecoder(opts: OnnxDecoderOpts): Promise<OnnxGraph> {
  const { checkpoint, architecture: a, planned } = opts;
  const done = createPhase('graph', a.layers, 'layers', opts);
  const g = createBuilder();
  const source = createSource(g, checkpoint, a, planned);
  const sequence = (name: string, tokens: string) => g.input({ name, type: 'INT64', shape: ['batch_size', tokens] });
  const ids = sequence('input_ids', 'sequence_length');
  const mask = sequence('attention_mask', 'total_sequence_length');
  const positions = sequence('position_ids', 'sequence_length');
  g.output({ name: 'logits', type: 'FLOAT', shape: ['batch_size', 'sequence_length', a.vocab] });

  const shared = shareAttention(g, a, ids, mask, positions);
  checkTensor(checkpoint, a.tensors.embedding, [a.vocab, a.hidden]);
  const table = g.weight('model.embed_tokens.weight', [a.vocab, a.hidden], 'FLOAT', async () =>
    bytesOf(decode(await checkpoint.read(a.tensors.embedding)).data),
  );
  const norm = (x: string, tensor: string, name: string) =>
    rmsNorm(
      g,
      x,
      vector(source, tensor, `${name}.weight`, a.hidden, (w) => (a.norm.plusOne ? 1 + w : w)),
      a.norm.eps,
      name,
    );
  const half = (x: string, y: string, post: string | undefined, name: string) =>
    g.op(name, 'Add', [x, post === undefined ? y : norm(y, post, name)]);

  let x = g.op('model.embed_tokens', 'Gather', [table, g.op('model.embed_tokens', 'Reshape', [ids, g.ints([-1])])]);
  if (a.embeddingScale !== undefined) x = g.op('model.embed_tokens', 'Mul', [x, g.floats(a.embeddingScale)]);
  for (let layer = 0; layer < a.layers; layer++) {
    done(layer);
    const site = (role: Site['role'], expert?: number) => a.sites.find((s) => s.layer === layer && s.role === role && s.expert === expert)!;
    const at = `model.layers.${layer}`;
    const mixed = await attention(source, norm(x, a.tensors.attentionNorm[layer]!, `${at}.attention_norm`), layer, site, shared);
    x = half(x, mixed, a.tensors.attentionPostNorm?.[layer], `${at}.attention_post_norm`);
    const fed = await (a.moe ? moe : mlp)(source, norm(x, a.tensors.mlpNorm[layer]!, `${at}.mlp_norm`), layer, site);
    x = half(x, fed, a.tensors.mlpPostNorm?.[layer], `${at}.mlp_post_norm`);
  }
  done(a.layers);
  const states = norm(x, a.tensors.finalNorm, 'model.norm');
  const flat = a.tensors.head === a.tensors.embedding ? multiply(g, states, table, 'lm_head') : await linear(source, states, headSite(a));
  g.op('lm_head', 'Reshape', [flat, apartShape(g, ids, a.vocab, 'lm_head')], { outputs: ['logits'] });
  return g.graph();
}

function shareAttention(g: Builder, a: Architecture, ids: string, mask: string, positions: string): AttentionShared {
  const { rotary, local, ...global } = a.rope;
  const count = g.op('rope', 'Size', [positions]);
  const rows = g.op('rope', 'Range', [g.ints([0], true), count, g.ints([1], true)]);
  return {
    run: attentionRun(g, ids, mask),
    angles: ropeAngles(g, global, rotary, positions, a.context, 'rope'),
    ...(local && { localAngles: ropeAngles(g, local, rotary, positions, a.context, 'rope.local') }),
    rows: g.op('rope', 'Reshape', [rows, g.op('rope', 'Shape', [positions])]),
    queryShape: apartShape(g, ids, a.heads * a.headDim, 'rope'),
    keyShape: apartShape(g, ids, a.kvHeads * a.headDim, 'rope'),
  };
}

/** The shape [batch, tokens, width]. */
function apartShape(g: Builder, ids: string, width: number, name: string): string {
  return g.op(name, 'Concat', [g.op(name, 'Shape', [ids]), g.ints([width])], { attributes: { axis: { int: 0 } } });
}
