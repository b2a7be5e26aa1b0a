import type { Checkpoint } from '@lmq/checkpoints';
import type { Backend, Handle } from '@lmq/tensor';
import {
  type Architecture,
  type BlockNorms,
  blockBackward,
  blockForward,
  crossEntropyBackward,
  embedTokens,
  loadBlock,
  loadFinalNorm,
  loadRope,
  readHead,
} from '../../src/index.js';

/** The mean next-token cross entropy of `ids`, and its gradients: of every linear and norm by its tensor (fused ones whole), of the head, and of the embedded tokens as `input`. */
export async function modelGradients(
  { checkpoint, architecture: a }: { checkpoint: Checkpoint; architecture: Architecture },
  backend: Backend,
  ids: readonly number[],
): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const s = backend.scope();
  const rope = loadRope(a, backend, ids.length);
  const parts = new Map<string, [number, Float32Array][]>();
  const add = (tensor: string, from: number, data: Float32Array): void => {
    parts.set(tensor, [...(parts.get(tensor) ?? []), [from, data]]);
  };
  const table = backend.load({ weight: await checkpoint.read(a.tensors.embedding) });
  const inputs: Handle[] = [embedTokens(s, a, table, ids)];
  table.dispose();
  for (let l = 0; l < a.layers; l++) {
    const block = await loadBlock(checkpoint, a, l, backend);
    inputs.push(await blockForward(s, block, inputs[l]!, { architecture: a, rope }));
    block.dispose();
  }
  const norm = await loadFinalNorm(checkpoint, a, backend);
  const head = backend.load(await readHead(checkpoint, a));
  const last = inputs[a.layers]!;
  const { loss, dStates, dWeight } = await crossEntropyBackward(s, head, norm.forward(s, last), ids, { weight: true });
  add(a.tensors.head, 0, (await s.read(dWeight!)).data);
  let d = await norm.backward(s, last, dStates);
  const normTensors: Record<keyof BlockNorms, string[] | undefined> = {
    attention: a.tensors.attentionNorm,
    mlp: a.tensors.mlpNorm,
    attentionPost: a.tensors.attentionPostNorm,
    mlpPost: a.tensors.mlpPostNorm,
    query: a.tensors.queryNorm,
    key: a.tensors.keyNorm,
  };
  for (let l = a.layers - 1; l >= 0; l--) {
    const block = await loadBlock(checkpoint, a, l, backend);
    d = await blockBackward(s, block, inputs[l]!, d, {
      architecture: a,
      rope,
      onWeightGradient: async (site, gradient) => add(site.tensor, site.slice?.[0] ?? 0, (await s.read(gradient)).data),
      onNormGradient: (which, gradient) => add(normTensors[which]![l]!, 0, gradient),
    });
    block.dispose();
  }
  add('input', 0, (await s.read(d)).data);
  for (const x of [norm, head, rope, s]) x.dispose();
  const joined = [...parts].map(([tensor, pieces]): [string, Float32Array] => {
    const all = new Float32Array(pieces.reduce((n, [, data]) => n + data.length, 0));
    let at = 0;
    for (const [, data] of pieces.sort((x, y) => x[0] - y[0])) {
      all.set(data, at);
      at += data.length;
    }
    return [tensor, all];
  });
  return { loss, gradients: new Map(joined) };
}
