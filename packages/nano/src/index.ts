/**
 * Where the built-in models and texts lie: URLs of files that ship with this package. Reading them is the caller's part, so that this
 * module runs anywhere. Both `src` and `dist` are one level below the package root, so the same relative addresses hold.
 * @module
 */

/** A model folder in Hugging Face form: `config.json`, `tokenizer.json`, `model.safetensors` and `golden.json`. */
export interface NanoModel {
  name: NanoModelName;
  /** Ends with a slash, so that `new URL('config.json', folder)` names a file in it. */
  folder: URL;
}

export type NanoModelName = 'lmq-nano' | 'lmq-nano-moe';

/**
 * `lmq-nano`: Llama architecture, 3.1 M parameters, tied embeddings, finds a pass key 1000 tokens back. `lmq-nano-moe`: Mixtral
 * architecture, 3.9 M parameters, 8 experts of which 2 are used. Both: context 1024, 2048 tokens, bf16.
 */
export const NANO_MODELS: Readonly<Record<NanoModelName, NanoModel>> = {
  'lmq-nano': { name: 'lmq-nano', folder: new URL('../models/lmq-nano/', import.meta.url) },
  'lmq-nano-moe': { name: 'lmq-nano-moe', folder: new URL('../models/lmq-nano-moe/', import.meta.url) },
};

/** JSON: 64 arrays of 512 token ids from novels the models were trained on. For calibration only. */
export const calibration: URL = new URL('../data/calibration.json', import.meta.url);

/** UTF-8 text: one whole novel that the models never saw. For evaluation only. */
export const validation: URL = new URL('../data/validation.txt', import.meta.url);

/** JSON: `{ note, documents: [{ ids, answer_ids, key_at }] }`, 20 documents of 1024 token ids. For evaluation only. */
export const passkey: URL = new URL('../data/passkey.json', import.meta.url);
