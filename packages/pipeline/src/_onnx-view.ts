/**
 * An ONNX decoder as lmq writes them (`onnx-graph/decoder.ts`), seen as the Hugging Face model that it was made of: the names of its tensors,
 * and norms less the 1 that Gemma's lack there. The graph is not looked at; what else is in the file is left out.
 * @module
 */
import type { Checkpoint, TensorInfo } from '@lmq/checkpoints';
import { decode } from '@lmq/formats';
import type { Architecture } from '@lmq/model';
import { LmqError } from '@lmq/tensor';

/** Where the graph keeps a tensor, and what it has added to each value. */
interface Place {
  stored: string;
  added: number;
}

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
  const tensors = new Map<string, TensorInfo>();
  const places = placesOf(hf);
  for (const [name, { stored }] of places) {
    const info = graph.tensors.get(stored);
    if (!info) return refuse('the graph does not name its weights as lmq does', stored);
    tensors.set(name, { ...info, name });
  }
  const fused = hf.sites.find((s) => s.slice);
  if (fused) refuse('linears that are one tensor in the folder are apart in the graph', fused.tensor);
  return {
    format: 'onnx',
    tensors,
    metadata: graph.metadata,
    async read(name) {
      const place = places.get(name);
      if (!place) throw new LmqError('model/missing', 'there is no such tensor', { op: 'read', tensor: name });
      const t = await graph.read(place.stored);
      if (!place.added) return t;
      const { data } = decode(t);
      return { kind: 'dense', shape: [t.shape[0], t.shape[1]], format: 'fp32', data: data.map((x) => x - place.added) };
    },
    close: () => graph.close(),
  };
}

function placesOf({ tensors: t, sites, norm, tied }: Architecture): Map<string, Place> {
  const places = new Map<string, Place>([[t.embedding, { stored: 'model.embed_tokens.weight', added: 0 }]]);
  if (!tied) places.set(t.head, { stored: 'lm_head.weight', added: 0 });
  const putNorm = (tensor: string | undefined, name: string) => {
    if (tensor !== undefined) places.set(tensor, { stored: `${name}.weight`, added: norm.plusOne ? 1 : 0 });
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
    places.set(tensor, { stored: `${name}.weight`, added: 0 });
    if (bias !== undefined) places.set(bias, { stored: `${name}.bias`, added: 0 });
  }
  return places;
}
