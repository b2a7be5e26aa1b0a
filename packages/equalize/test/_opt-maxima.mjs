/**
 * Largest |x| of each channel of the inputs of OPT's linears, as mit-han-lab/smoothquant publishes them: a zip file that holds a pickle and a
 * file for each tensor, nothing compressed. Read just far enough for these two files, which are not part of the project: they lie in ../shared
 * beside the checkout.
 */
import { existsSync, readFileSync } from 'node:fs';

const FOLDER = new URL('../../../../shared/stats/', import.meta.url);

/**
 * @param model `opt-125m` or `opt-1.3b`
 * @returns by name of the linear; undefined where ../shared is absent
 */
export function readOptMaxima(model) {
  const file = new URL(`${model}.act_scales.pt`, FOLDER);
  if (!existsSync(file)) return undefined;
  const files = unzip(readFileSync(file));
  const find = (end) => [...files].find(([name]) => name.endsWith(end))?.[1];
  const storage = ([, , key, , length]) => {
    const bytes = find(`/data/${key}`);
    return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + 4 * length));
  };
  return new Map(Object.entries(unpickle(find('/data.pkl'), storage)));
}

/** Files of an archive by name. */
function unzip(data) {
  const files = new Map();
  const end = data.lastIndexOf('PK\x05\x06');
  let at = data.readUInt32LE(end + 16); // of the central directory
  for (let n = data.readUInt16LE(end + 10); n > 0; n--) {
    const [nameSize, extraSize, commentSize] = [28, 30, 32].map((field) => data.readUInt16LE(at + field));
    if (data.readUInt16LE(at + 10) !== 0) throw new Error('compressed');
    const local = data.readUInt32LE(at + 42);
    const start = local + 30 + data.readUInt16LE(local + 26) + data.readUInt16LE(local + 28);
    files.set(data.toString('utf8', at + 46, at + 46 + nameSize), data.subarray(start, start + data.readUInt32LE(at + 24)));
    at += 46 + nameSize + extraSize + commentSize;
  }
  return files;
}

/** A dictionary of whole float32 tensors, in protocol 2. */
function unpickle(data, storage) {
  const stack = [];
  const marks = [];
  const memo = new Map();
  let at = 0;
  const skip = (size) => {
    at += size;
    return at - size;
  };
  const byte = () => data[skip(1)];
  const uint32 = () => data.readUInt32LE(skip(4));
  const text = (size) => data.toString('utf8', skip(size), at);
  const line = () => text(data.indexOf(10, at) + 1 - at).trimEnd();
  const sinceMark = () => stack.splice(marks.pop());
  const operations = {
    '\x80': byte, // the protocol
    '}': () => stack.push({}),
    ')': () => stack.push([]),
    '(': () => marks.push(stack.length),
    t: () => stack.push(sinceMark()),
    '\x85': () => stack.push([stack.pop()]),
    '\x89': () => stack.push(false),
    K: () => stack.push(byte()),
    M: () => stack.push(data.readUInt16LE(skip(2))),
    X: () => stack.push(text(uint32())),
    c: () => stack.push(`${line()}.${line()}`),
    q: () => memo.set(byte(), stack.at(-1)),
    r: () => memo.set(uint32(), stack.at(-1)),
    h: () => stack.push(memo.get(byte())),
    j: () => stack.push(memo.get(uint32())),
    Q: () => stack.push(storage(stack.pop())),
    R: () => {
      const [of, args] = stack.splice(-2);
      stack.push(of === 'torch._utils._rebuild_tensor_v2' ? args[0] : {});
    },
    u: () => {
      const items = sinceMark();
      for (let i = 0; i < items.length; i += 2) stack.at(-1)[items[i]] = items[i + 1];
    },
  };
  for (;;) {
    const operation = String.fromCharCode(byte());
    if (operation === '.') return stack.pop();
    operations[operation]();
  }
}
