/**
 * An ONNX decoder as lmq writes them (`onnx-graph/decoder.ts`), seen as the Hugging Face model that it was made of: the names of its tensors,
 * and norms less the 1 that Gemma's lack there. The graph is not looked at; what else is in the file is left out.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import type { Architecture } from '@lmq/model';
import { LmqError } from '@lmq/tensor';
import { type Part, viewOf } from './_hf-view.js';

/**
 * @param hf the architecture that `parseHfConfig` makes of config.json
 * @throws LmqError `model/unsupported` for graphs of other exporters, and families whose linears are fused
 */
export function onnxView(graph: Checkpoint, hf: Architecture): Checkpoint {
  const refuse = (what: string, tensor: string): never => {
    throw new LmqError('model/unsupported', what, {
      op: 'openModel',
      tensor,
      hint: 'Use the model that the ONNX file was made of; lmq inspect shows what is in the file.',
    });
  };
  const parts = partsOf(hf);
  const missing = [...parts.values()].find(({ tensor }) => !graph.tensors.has(tensor));
  if (missing) refuse('the graph does not name its weights as lmq does', missing.tensor);
  const fused = hf.sites.find((s) => s.slice);
  if (fused) refuse('linears that are one tensor in the folder are apart in the graph', fused.tensor);
  return viewOf(graph, parts);
}

function partsOf({ tensors: t, sites, norm, tied }: Architecture): Map<string, Part> {
  const parts = new Map<string, Part>([[t.embedding, { tensor: 'model.embed_tokens.weight' }]]);
  const less = norm.plusOne ? { add: -1 } : {};
  if (!tied) parts.set(t.head, { tensor: 'lm_head.weight' });
  const putNorm = (tensor: string | undefined, name: string) => {
    if (tensor !== undefined) parts.set(tensor, { tensor: `${name}.weight`, ...less });
  };
  putNorm(t.finalNorm, 'model.norm');
  for (let layer = 0; layer < t.attentionNorm.length; layer++) {
    const at = `model.layers.${layer}`;
    putNorm(t.attentionNorm[layer], `${at}.attention_norm`);
    putNorm(t.attentionPostNorm?.[layer], `${at}.attention_post_norm`);
    putNorm(t.mlpNorm[layer], `${at}.mlp_norm`);
    putNorm(t.mlpPostNorm?.[layer], `${at}.mlp_post_norm`);
    putNorm(t.queryNorm?.[layer], `${at}.self_attn.q_norm`);
    putNorm(t.keyNorm?.[layer], `${at}.self_attn.k_norm`);
  }
  for (const { name, tensor, bias } of sites) {
    parts.set(tensor, { tensor: `${name}.weight` });
    if (bias !== undefined) parts.set(bias, { tensor: `${name}.bias` });
  }
  return parts;
}
