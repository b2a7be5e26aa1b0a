// ONNX models, and damage done to them: to the tree of their messages, which is then written with right lengths, and to single bytes.
import type { Rng } from '@lmq/tensor';
import { bytesOf, golden } from './_onnx.js';

/** A field: a varint, bytes, or another message. */
type Tree = [field: number, value: bigint | Uint8Array | Tree][];

/** Fields that are messages, by the path of field numbers to them: graph, node, attribute, initializer, external data, opset, metadata. */
const MESSAGES = new Set(['7', '7.1', '7.1.5', '7.5', '7.5.13', '8', '14']);

function varint(bytes: Uint8Array, at: number): [value: bigint, next: number] {
  let value = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const byte = bytes[at++]!;
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) return [value, at];
  }
}

function parse(bytes: Uint8Array, path = ''): Tree {
  const tree: Tree = [];
  for (let at = 0; at < bytes.length; ) {
    const [key, afterKey] = varint(bytes, at);
    const field = Number(key >> 3n);
    const [value, next] = varint(bytes, afterKey); // these models have varints and bytes
    if ((key & 7n) === 0n) {
      tree.push([field, value]);
      at = next;
      continue;
    }
    const own = `${path}${path && '.'}${field}`;
    const contents = bytes.slice(next, next + Number(value));
    tree.push([field, MESSAGES.has(own) ? parse(contents, own) : contents]);
    at = next + Number(value);
  }
  return tree;
}

function put(out: number[], value: bigint): void {
  let rest = BigInt.asUintN(64, value);
  for (; rest > 127n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
  out.push(Number(rest));
}

function write(tree: Tree): Uint8Array {
  const out: number[] = [];
  for (const [field, value] of tree) {
    put(out, BigInt(field * 8 + (typeof value === 'bigint' ? 0 : 2)));
    if (typeof value === 'bigint') {
      put(out, value);
      continue;
    }
    const bytes = value instanceof Uint8Array ? value : write(value);
    put(out, BigInt(bytes.length));
    for (const b of bytes) out.push(b);
  }
  return Uint8Array.from(out);
}

const pick = <T>(rng: Rng, list: readonly T[]): T => list[rng.below(list.length)]!;

const NUMBERS = [
  0n,
  1n,
  2n,
  3n,
  4n,
  8n,
  10n,
  15n,
  16n,
  17n,
  32n,
  63n,
  64n,
  65n,
  96n,
  127n,
  128n,
  2n ** 31n,
  2n ** 32n + 1n,
  2n ** 53n,
  -1n,
];
const TEXTS = [
  ...['', 'x', 'MatMulNBits', 'com.microsoft', 'K', 'N', 'bits', 'block_size', 'layer.0.weight_Q4', 'layer.0.weight_scales', '__proto__'],
  ...['location', 'offset', 'length', 'model.onnx_data', '../x', '/etc/passwd', '0', '-1', '1e3', '99999999999999999', 'constructor'],
].map((t) => new TextEncoder().encode(t));

/** Every message of a tree, itself included. */
function messages(tree: Tree): Tree[] {
  return [tree, ...tree.flatMap(([, v]) => (Array.isArray(v) ? messages(v) : []))];
}

function damageTree(rng: Rng, tree: Tree): void {
  const message = pick(
    rng,
    messages(tree).filter((m) => m.length > 0),
  );
  const i = rng.below(message.length);
  const [field, value] = message[i]!;
  switch (rng.below(7)) {
    case 0:
      message.splice(i, 1);
      break;
    case 1:
      message.push([field, value]);
      break;
    case 2:
      message[i] = [1 + rng.below(16), value];
      break;
    case 3: {
      const other = rng.below(message.length);
      [message[i], message[other]] = [message[other]!, message[i]!];
      break;
    }
    case 4:
      message[i] = [field, typeof value === 'bigint' ? pick(rng, TEXTS) : pick(rng, NUMBERS)];
      break;
    default:
      if (typeof value === 'bigint') message[i] = [field, pick(rng, NUMBERS)];
      else if (value instanceof Uint8Array) {
        message[i] = [field, rng.below(2) ? pick(rng, TEXTS) : value.slice(0, rng.below(value.length + 1))];
      }
  }
}

function damageBytes(rng: Rng, bytes: Uint8Array): Uint8Array {
  if (rng.below(3) === 0) return bytes.slice(0, rng.below(bytes.length + 1));
  const out = bytes.slice();
  for (let n = 1 + rng.below(4); n > 0 && out.length; n--) out[rng.below(out.length)] = pick(rng, [0, 1, 0x7f, 0x80, 0xff, rng.below(256)]);
  return out;
}

const MODELS = Object.values(golden).map(({ model, files }) => ({
  model: bytesOf(model),
  files: new Map(Object.entries(files).map(([name, data]) => [name, bytesOf(data)] as const)),
}));

/** A model and the files beside it, damaged or not. */
export function hostileOnnx(rng: Rng): { model: Uint8Array; files: Map<string, Uint8Array>; whole: boolean } {
  const { model, files } = pick(rng, MODELS);
  const how = rng.below(10);
  if (how === 0) return { model, files, whole: true };
  const beside = how === 1 ? new Map([...files].map(([name, bytes]) => [name, damageBytes(rng, bytes)])) : files;
  if (how >= 8) return { model: damageBytes(rng, model), files: beside, whole: false };
  const tree = parse(model);
  for (let n = 1 + rng.below(3); n > 0; n--) damageTree(rng, tree);
  return { model: write(tree), files: beside, whole: false };
}
