// Writes lmq-nano quantized in the ways of one format, each a folder of <out>, and beside each what lmq decodes its weights to:
// <out>/<way>-decoded.safetensors, float32. For the readers of that name; run after a build.
//
//     node tools/python-readers/folders.mjs bitsandbytes|hqq|auto_round <out>
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  autoRoundConfig,
  bitsandbytesConfig,
  hqqConfig,
  openQuantized,
  toAutoRoundTensors,
  toBitsandbytesTensors,
  toHqqTensors,
  writeSafetensors,
} from '../../packages/checkpoints/dist/index.js';
import { openCheckpoint, writeFileAtomic } from '../../packages/checkpoints/dist/node.js';
import { decode, encodeFloats, encodeTable4, zeroPointValues } from '../../packages/formats/dist/index.js';
import { rtn } from '../../packages/quant-core/dist/index.js';

const [format, out] = process.argv.slice(2);
if (!out) throw new Error('name a format and the folder to write to');
const nano = fileURLToPath(new URL('../../packages/nano/models/lmq-nano', import.meta.url));
const original = await openCheckpoint(nano);
const config = JSON.parse(await readFile(join(nano, 'config.json'), 'utf8'));

const int = (bits, opts) => (w) => rtn(w, { bits, scaleFormat: 'fp16', ...opts }).weight;

const table = (type, blockSize, doubleQuant) => ({
  quantize: (w) => encodeTable4(type, w, { blockSize, doubleQuant }),
  pack: (name, t) => toBitsandbytesTensors(name, t, { dtype: 'bf16' }),
  config: bitsandbytesConfig({ type, doubleQuant, skipModules: ['lm_head'] }),
});

/** Zero points half a step beside integers, as HQQ's are. */
const between = (t) => {
  const zeros = Float32Array.from(zeroPointValues(t, 0, t.scales.data.length), (z) => z + 0.37);
  return { ...t, zeroPoints: { format: 'fp16', data: encodeFloats('fp16', zeros) } };
};
const hqq = (bits, groupSize) => ({
  quantize: (w) => between(int(bits, groupSize === -1 ? {} : { groupSize })(w)),
  pack: toHqqTensors,
  config: hqqConfig({ bits, groupSize }),
});

const round = (packing, bits, groupSize, sym) => ({
  quantize: int(bits, { groupSize, symmetric: sym }),
  pack: (name, t) => toAutoRoundTensors(name, t, { packing }),
  config: autoRoundConfig({ packing, bits, groupSize, sym, layers: new Map([['lm_head', null]]) }),
});

const FORMATS = {
  bitsandbytes: {
    nf4: table('nf4', 64, false),
    nf4_double: table('nf4', 64, true),
    fp4: table('fp4', 128, false),
    fp4_double: table('fp4', 64, true),
    int8: {
      quantize: int(8, { symmetric: true }),
      pack: (name, t) => toBitsandbytesTensors(name, t, { dtype: 'bf16' }),
      config: bitsandbytesConfig({ type: 'int8', skipModules: ['lm_head'] }),
    },
  },
  hqq: Object.fromEntries([1, 2, 3, 4, 5, 6, 8].flatMap((bits) => [64, -1].map((g) => [`w${bits}g${g === -1 ? 'row' : g}`, hqq(bits, g)]))),
  auto_round: Object.fromEntries(
    ['gptq-v1', 'gptq-v2']
      .flatMap((packing) =>
        [2, 3, 4, 8].flatMap((bits) => [
          [`${packing}-w${bits}`, round(packing, bits, 64, true)],
          ...(packing === 'gptq-v2' ? [[`${packing}-w${bits}-asym`, round(packing, bits, 32, false)]] : []),
        ]),
      )
      .concat([
        ['awq', round('awq', 4, 64, true)],
        ['awq-asym', round('awq', 4, 32, false)],
      ]),
  ),
};

for (const [name, { quantize, pack, config: quantization_config }] of Object.entries(FORMATS[format])) {
  const folder = join(out, name);
  await mkdir(folder, { recursive: true });
  const linears = [];
  const tensors = [];
  for (const t of original.tensors.values()) {
    if (!t.name.endsWith('_proj.weight')) {
      tensors.push({ name: t.name, shape: t.shape, dtype: original.dtype(t.name), bytes: () => original.readBytes(t.name) });
      continue;
    }
    linears.push(t.name);
    tensors.push(...pack(t.name, quantize(decode(await original.read(t.name)))));
  }
  await writeFileAtomic(join(folder, 'model.safetensors'), (sink) => writeSafetensors(sink, tensors, { format: 'pt' }), { force: true });
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, quantization_config }));
  await copyFile(join(nano, 'generation_config.json'), join(folder, 'generation_config.json'));
  const model = await openQuantized(await openCheckpoint(folder), { quantization_config });
  const decoded = linears.map((tensor) => ({
    name: tensor,
    shape: model.tensors.get(tensor).shape,
    dtype: 'F32',
    bytes: async () => new Uint8Array(decode(await model.read(tensor)).data.buffer),
  }));
  await writeFileAtomic(join(out, `${name}-decoded.safetensors`), (sink) => writeSafetensors(sink, decoded), { force: true });
  await model.close();
}
await original.close();
