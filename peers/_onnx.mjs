// What the tests of ONNX Runtime share: running an exported decoder, by onnxruntime-node or onnxruntime-web.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The folder's one model and its weights. */
export function onnxFiles(dir) {
  const names = readdirSync(dir);
  return { model: names.find((n) => n.endsWith('.onnx')), data: names.filter((n) => n.includes('.onnx_data')) };
}

/** A decoder that keeps its cache between runs. `ort` is either runtime; from files, or from bytes as in a browser. */
export async function openDecoder(ort, dir, { fromBytes = false } = {}) {
  const { model, data } = onnxFiles(dir);
  const options = {
    logSeverityLevel: 3,
    ...(fromBytes && { externalData: data.map((path) => ({ path, data: readFileSync(join(dir, path)) })) }),
  };
  const session = await ort.InferenceSession.create(fromBytes ? readFileSync(join(dir, model)) : join(dir, model), options);
  const caches = session.inputMetadata.filter((i) => i.name.startsWith('past_key_values.'));
  const int64 = (rows) => new ort.Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);

  /** Starts anew. `mask` and `positions` are of all tokens so far; the defaults are those of sequences without padding. */
  function start(batch = 1) {
    const past = Object.fromEntries(
      caches.map(({ name, shape }) => [name, new ort.Tensor('float32', new Float32Array(0), [batch, shape[1], 0, shape[3]])]),
    );
    let length = 0;
    /** Logits [batch * tokens] of rows of ids, one array each. */
    return async function step(ids, mask, positions) {
      const tokens = ids[0].length;
      const run = Array.from({ length: length + tokens }, (_, i) => i);
      const out = await session.run({
        input_ids: int64(ids),
        attention_mask: int64(mask ?? ids.map(() => run.map(() => 1))),
        position_ids: int64(positions ?? ids.map(() => run.slice(length))),
        ...past,
      });
      length += tokens;
      for (const { name } of caches) past[name] = out[name.replace('past_key_values', 'present')];
      const vocab = out.logits.dims[2];
      return Array.from({ length: ids.length * tokens }, (_, r) => out.logits.data.slice(r * vocab, (r + 1) * vocab));
    };
  }
  return { start, release: () => session.release() };
}
