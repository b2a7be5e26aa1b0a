// Writes lmq-nano quantized in the ways that the readers of one format look at, each an lmq folder of <out>, for `lmq convert` to store in
// that format. Run after a build.
//
//     node tools/python-readers/sources.mjs bitsandbytes|hqq|auto_round <out>
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lmqManifest, toLmqTensors, writeSafetensors } from '../../packages/checkpoints/dist/index.js';
import { createFolder, openCheckpoint, writeFileAtomic } from '../../packages/checkpoints/dist/node.js';
import { decode, encodeFloats, encodeTable4, zeroPointValues } from '../../packages/formats/dist/index.js';
import { rtn } from '../../packages/quant-core/dist/index.js';

const [format, out] = process.argv.slice(2);
if (!out) throw new Error('name a format and the folder to write to');
const nano = fileURLToPath(new URL('../../packages/nano/models/lmq-nano', import.meta.url));

const int = (bits, opts) => (w) => rtn(w, { bits, scaleFormat: 'fp16', ...opts }).weight;
const table = (type, blockSize, doubleQuant) => (w) => encodeTable4(type, w, { blockSize, doubleQuant });

/** Zero points a third beside integers, as HQQ's are. */
const between = (quantize) => (w) => {
  const t = quantize(w);
  const zeros = Float32Array.from(zeroPointValues(t, 0, t.scales.data.length), (z) => z + 0.37);
  return { ...t, zeroPoints: { format: 'fp16', data: encodeFloats('fp16', zeros) } };
};

/** By name; what follows a `+` says the variant of the format. */
const WAYS = {
  bitsandbytes: {
    nf4: table('nf4', 64, false),
    nf4_double: table('nf4', 64, true),
    fp4: table('fp4', 128, false),
    fp4_double: table('fp4', 64, true),
    int8: int(8, { symmetric: true }),
  },
  hqq: Object.fromEntries(
    [1, 2, 3, 4, 5, 6, 8].flatMap((bits) => [
      [`w${bits}g64`, between(int(bits, { groupSize: 64 }))],
      [`w${bits}grow`, between(int(bits, {}))],
    ]),
  ),
  auto_round: Object.fromEntries([
    ...[2, 3, 4, 8].flatMap((bits) => [
      [`w${bits}+auto_gptq`, int(bits, { groupSize: 64, symmetric: true })],
      [`w${bits}+gptqmodel`, int(bits, { groupSize: 64, symmetric: true })],
      [`w${bits}-asym+gptqmodel`, int(bits, { groupSize: 32 })],
    ]),
    ['w4+auto_awq', int(4, { groupSize: 64, symmetric: true })],
    ['w4-asym+auto_awq', int(4, { groupSize: 32 })],
  ]),
};

await mkdir(out, { recursive: true });
const original = await openCheckpoint(nano);
const files = await Promise.all(['config.json', 'generation_config.json'].map(async (name) => [name, await readFile(join(nano, name))]));
for (const [name, quantize] of Object.entries(WAYS[format])) {
  const entries = [];
  const tensors = [];
  for (const { name: tensor, shape } of original.tensors.values()) {
    const t = await original.read(tensor);
    const packed = toLmqTensors(tensor, tensor.endsWith('_proj.weight') ? quantize(decode(t)) : t, shape);
    entries.push([tensor, packed.entry]);
    tensors.push(...packed.tensors);
  }
  const folder = await createFolder(join(out, name));
  const write = (file, bytes) => writeFileAtomic(join(folder.dir, file), (sink) => sink.write(bytes));
  await writeFileAtomic(join(folder.dir, 'model.safetensors'), (sink) => writeSafetensors(sink, tensors));
  await write('lmq.json', new TextEncoder().encode(lmqManifest(entries)));
  for (const [file, bytes] of files) await write(file, bytes);
  await folder.commit();
}
await original.close();
