// Prints what we read from a GGUF file, for gguf-py.py to compare: a hash of each tensor's float32 values, and the key-values.
import { createHash } from 'node:crypto';
import { openGguf } from '../../packages/checkpoints/dist/index.js';
import { fileSource } from '../../packages/checkpoints/dist/node.js';
import { decode } from '../../packages/formats/dist/index.js';

const FLOATS = { fp32: 'F32', fp16: 'F16', bf16: 'BF16' };
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const file = await openGguf(await fileSource(process.argv[2]));
const tensors = {};
for (const [name, { shape, format }] of file.tensors) {
  const data = decode(await file.read(name)).data.map((x) => x + 0); // -0 as 0: blocks of zeros have either sign
  tensors[name] = { type: FLOATS[format] ?? format, shape, sha256: sha256(new Uint8Array(data.buffer)) };
}
const metadata = {};
for (const [key, value] of file.metadata) {
  const list = ArrayBuffer.isView(value) ? Array.from(value) : value;
  metadata[key] = Array.isArray(list) && typeof list[0] === 'string' ? sha256(JSON.stringify(list)) : list;
}
process.stdout.write(JSON.stringify({ tensors, metadata }));
