import { existsSync, readFileSync } from 'node:fs';
import { memorySource, openSafetensors } from '@lmq/checkpoints';
import { createTokenizer, loadModel, type Model, parseHfConfig } from '@lmq/model';
import { NANO_MODELS, type NanoModelName, validation } from '@lmq/nano';
import { type Backend, matrix } from '@lmq/tensor';

export const SHARED = new URL('../../../../shared/', import.meta.url);
export const hasShared = existsSync(SHARED);
export const SKIP_NOTE = hasShared ? '' : ' (skipped: ../shared is absent)';

export const readJson = (url: URL) => JSON.parse(readFileSync(url, 'utf8'));

export async function loadNano(name: NanoModelName, backend: Backend): Promise<Model> {
  const { folder } = NANO_MODELS[name];
  const checkpoint = await openSafetensors(memorySource(new Uint8Array(readFileSync(new URL('model.safetensors', folder))), name));
  const architecture = parseHfConfig(readJson(new URL('config.json', folder)), (tensor) => checkpoint.tensors.has(tensor));
  return loadModel({ checkpoint, architecture, backend });
}

export function validationIds(): number[] {
  const json = (name: string) => readJson(new URL(name, NANO_MODELS['lmq-nano'].folder));
  return createTokenizer(json('tokenizer.json'), json('tokenizer_config.json')).encode(readFileSync(validation, 'utf8'));
}

/** A model whose logits after token i are row i of a table, whatever came before: everything about it can be worked out by hand. */
export function tableModel(backend: Backend, table: number[][], context = 16): Model {
  const vocab = table.length;
  const architecture = { vocab, context, hidden: vocab } as Model['architecture'];
  const rows = (ids: ArrayLike<number>) => matrix(Float32Array.from(Array.from(ids).flatMap((id) => table[id]!)), ids.length, vocab);
  return {
    architecture,
    backend,
    bytes: 0,
    blocks: [],
    hidden: async (s, ids) => s.upload(rows(ids)),
    head: (s, states) => s.copy(states),
    forward: async (s, ids) => s.upload(rows(ids)),
    createCache: () => {
      throw new Error('not needed');
    },
    dispose: () => {},
  };
}
