// Writes lmq-nano quantized in every format of compressed-tensors, each a folder of <out>, and beside each what lmq decodes its weights to:
// <out>/<format>-decoded.safetensors, float32. For compressed-tensors.py; run after a build.
//
//     node tools/python-readers/compressed-tensors.mjs <out>
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  compressedTensorsConfig,
  compressedTensorsScheme,
  openQuantized,
  toCompressedTensors,
  writeSafetensors,
} from '../../packages/checkpoints/dist/index.js';
import { openCheckpoint, writeFileAtomic } from '../../packages/checkpoints/dist/node.js';
import { decode, encodeFloats, encodeMinifloats, encodeMx, encodeNvfp4 } from '../../packages/formats/dist/index.js';
import { rtn } from '../../packages/quant-core/dist/index.js';

const [out] = process.argv.slice(2);
if (!out) throw new Error('name the folder to write to');
const nano = fileURLToPath(new URL('../../packages/nano/models/lmq-nano', import.meta.url));
const original = await openCheckpoint(nano);
const config = JSON.parse(await readFile(join(nano, 'config.json'), 'utf8'));

const int = (bits, opts) => (w) => rtn(w, { bits, scaleFormat: 'bf16', preset: 'compressed-tensors', ...opts }).weight;
const mx = (format) => (w) => encodeMx(format, w, { scaleRule: 'compressed-tensors' });

/** FP8 with a bf16 scale for each block of this size, `Infinity` for a whole axis. */
const fp8 = (blockRows, blockCols) => (w) => {
  const [rows, cols] = w.shape;
  const block = [Math.min(blockRows, rows), Math.min(blockCols, cols)];
  const perRow = Math.ceil(cols / block[1]);
  const at = (i) => Math.floor(i / cols / block[0]) * perRow + Math.floor((i % cols) / block[1]);
  const largest = new Float32Array(Math.ceil(rows / block[0]) * perRow);
  for (let i = 0; i < rows * cols; i++) largest[at(i)] = Math.max(largest[at(i)], Math.abs(w.data[i]));
  const data = encodeFloats(
    'bf16',
    largest.map((a) => a / 448),
  );
  const scales = decode({ kind: 'dense', shape: [1, data.length], format: 'bf16', data }).data;
  const codes = encodeMinifloats(
    'fp8e4m3',
    w.data.map((x, i) => x / scales[at(i)]),
  );
  return { kind: 'minifloat', shape: [rows, cols], format: 'fp8e4m3', codes, scales: { block, format: 'bf16', data } };
};

const int8 = { format: 'int-quantized' };
const cases = {
  ...Object.fromEntries([2, 3, 4, 5, 6, 7, 8].map((bits) => [`w${bits}a16`, { quantize: int(bits, { symmetric: true, groupSize: 64 }) }])),
  w3a16_asym: { quantize: int(3, { groupSize: 32 }) },
  w4a16_asym: { quantize: int(4, { groupSize: 32 }) },
  w8a16_channel_asym: { quantize: int(8, {}) },
  w8a8: { quantize: int(8, { symmetric: true }), opts: int8, activations: 'dynamic' },
  w8a8_tensor_asym: { quantize: int(8, { granularity: 'tensor' }), opts: int8, activations: 'dynamic' },
  w4a8: { quantize: int(4, { symmetric: true, groupSize: 64 }), opts: int8, activations: 'dynamic' },
  fp8: { quantize: fp8(Infinity, Infinity) },
  fp8_dynamic: { quantize: fp8(1, Infinity), activations: 'dynamic' },
  fp8_block: { quantize: fp8(64, 64), activations: 'dynamic' },
  mxfp4: { quantize: mx('fp4e2m1'), activations: 'dynamic' },
  mxfp6: { quantize: mx('fp6e2m3'), activations: 'dynamic' },
  mxfp8: { quantize: mx('fp8e4m3'), activations: 'dynamic' },
  nvfp4: { quantize: (w) => encodeNvfp4(w) },
  mixed: {
    quantize: (w, name) => (name.includes('mlp') ? int(4, { symmetric: true, groupSize: 64 })(w) : fp8(1, Infinity)(w)),
  },
  mixed_asym: { quantize: (w, name) => int(name === 'model.layers.0.self_attn.o_proj.weight' ? 5 : 8, {})(w) },
};

for (const [name, { quantize, opts = {}, activations }] of Object.entries(cases)) {
  const folder = join(out, name);
  await mkdir(folder, { recursive: true });
  const linears = [];
  const tensors = [];
  for (const t of original.tensors.values()) {
    if (!t.name.endsWith('_proj.weight')) {
      tensors.push({ name: t.name, shape: t.shape, dtype: original.dtype(t.name), bytes: () => original.readBytes(t.name) });
      continue;
    }
    const q = quantize(decode(await original.read(t.name)), t.name);
    linears.push([t.name, compressedTensorsScheme(t.name, q, opts)]);
    tensors.push(...toCompressedTensors(t.name, q, opts));
  }
  await writeFileAtomic(join(folder, 'model.safetensors'), (sink) => writeSafetensors(sink, tensors, { format: 'pt' }), { force: true });
  const quantization_config = compressedTensorsConfig({ linears, activations, ignore: ['lm_head'] });
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, quantization_config }));
  await copyFile(join(nano, 'generation_config.json'), join(folder, 'generation_config.json'));
  const model = await openQuantized(await openCheckpoint(folder), { quantization_config });
  const decoded = linears.map(([tensor]) => ({
    name: tensor,
    shape: model.tensors.get(tensor).shape,
    dtype: 'F32',
    bytes: async () => new Uint8Array(decode(await model.read(tensor)).data.buffer),
  }));
  await writeFileAtomic(join(out, `${name}-decoded.safetensors`), (sink) => writeSafetensors(sink, decoded), { force: true });
  await model.close();
}
await original.close();
