// Makes the damaged files of this folder and expected.json beside them. Bytes are put together by hand, without the writers under test:
//
//     node packages/checkpoints/test/corpus/make-corpus.mjs
//
// A case is a valid file with one thing wrong. It says which error opening it, or reading all of its tensors, must end in, and at which byte.
// The cases of GGUF follow those of llama.cpp's tests/test-gguf.cpp. Another format is another block at the end: a folder of its name, and
// entries by `add`.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const expected = {};

/** @param files contents by file name, or the bytes of the one file `name` */
function add(name, files, expect) {
  for (const [file, bytes] of files instanceof Uint8Array ? [['', files]] : Object.entries(files)) {
    const path = join(here, name, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
  }
  expected[name] = expect;
}

for (const e of readdirSync(here, { withFileTypes: true })) if (e.isDirectory()) rmSync(join(here, e.name), { recursive: true });

/** Little-endian bytes one after the other; `at()` is where the next one goes. */
function bytes() {
  const out = [];
  const b = {
    at: () => out.length,
    raw: (...xs) => {
      out.push(...xs);
      return b;
    },
    u32: (n) => b.raw(...new Uint8Array(Uint32Array.of(n).buffer)),
    u64: (n) => b.raw(...new Uint8Array(BigUint64Array.of(BigInt(n)).buffer)),
    text: (s) => b.raw(...new TextEncoder().encode(s)),
    string: (s) => b.u64(new TextEncoder().encode(s).length).text(s),
    pad: (to) => b.raw(...Array((to - (out.length % to)) % to).fill(0)),
    done: () => Uint8Array.from(out),
  };
  return b;
}

// --- GGUF ---------------------------------------------------------------------------------------------------------------------------------

const U32 = 4;
const STRING = 8;
const ARRAY = 9;

/** Two tensors and three keys; each option puts something wrong, or else valid, in place of a part. */
function gguf(o = {}) {
  const marks = {};
  const b = bytes();
  const mark = (name) => {
    marks[name] = b.at();
  };
  const align = o.align ?? 32;
  const kv = o.kv ?? [
    ['general.architecture', STRING, (x) => x.string('llama')],
    ['llama.block_count', U32, (x) => x.u32(1)],
    ['tokenizer.ggml.tokens', ARRAY, (x) => x.u32(STRING).u64(2).string('a').string('b')],
  ];
  if (o.keyAlign !== undefined) kv.push(['general.alignment', o.alignType ?? U32, (x) => x.u32(o.keyAlign)]);
  const tensors = o.tensors ?? [
    { name: 'a.weight', dims: [32, 2], type: 2, bytes: 36 },
    { name: 'b.weight', dims: [4], type: 0, bytes: 16 },
  ];
  b.text(o.magic ?? 'GGUF').u32(o.version ?? 3);
  mark('counts');
  b.u64(o.tensorCount ?? tensors.length).u64(o.kvCount ?? kv.length);
  for (const [key, type, value] of kv) {
    mark('key');
    marks[key] ??= b.at();
    if (o.keySize !== undefined) b.u64(o.keySize).text(key);
    else b.string(key);
    mark('valueType');
    b.u32(o.valueType ?? type);
    mark('value');
    value(b);
  }
  let offset = 0;
  for (const [i, t] of tensors.entries()) {
    mark('tensor');
    mark(`tensor${i}`);
    if (t.nameSize !== undefined) b.u64(t.nameSize).text(t.name);
    else b.string(t.name);
    b.u32(t.rank ?? t.dims.length);
    for (const d of t.dims) b.u64(d);
    b.u32(t.type);
    mark('offset');
    b.u64(t.offset ?? offset);
    offset += Math.ceil(t.bytes / align) * align;
  }
  mark('headerEnd');
  if (tensors.length) b.pad(align);
  mark('data');
  for (const t of tensors) b.raw(...(t.data ?? Array(t.bytes).fill(1))).pad(align);
  for (let i = 0; i < (o.behind ?? 0); i++) b.raw(0);
  const all = b.done();
  return { bytes: o.cut ? all.subarray(0, all.length - o.cut) : all, marks, size: all.length - (o.cut ?? 0) };
}

const ok = { code: null };
const bad = (offset, more = {}) => ({ code: 'file/format', offset, ...more });
const cut = (offset, more = {}) => ({ code: 'file/truncated', offset, ...more });
const limit = (offset, more = {}) => ({ code: 'file/limit', offset, ...more });
const A = (over = {}) => ({ name: 'a.weight', dims: [32, 2], type: 2, bytes: 36, ...over });
const B = (over = {}) => ({ name: 'b.weight', dims: [4], type: 0, bytes: 16, ...over });

function addGguf(name, options, expect) {
  const { bytes, marks, size } = gguf(options);
  add(`gguf/${name}.gguf`, bytes, expect(marks, size));
}

addGguf('valid', {}, () => ok);
addGguf('valid-no-tensors', { tensors: [] }, () => ok);
addGguf('valid-no-keys', { kv: [] }, () => ok);
addGguf('valid-custom-alignment', { align: 64, keyAlign: 64 }, () => ok);
add('gguf/empty.gguf', new Uint8Array(), cut(0));
add('gguf/magic-only.gguf', bytes().text('GGUF').done(), cut(4));
addGguf('bad-magic', { magic: 'GGML' }, () => bad(0));
addGguf('bad-version-0', { version: 0 }, () => bad(4));
addGguf('bad-version-future', { version: 4 }, () => bad(4));
addGguf('big-endian', { version: 0x03000000 }, () => bad(4, { message: 'big-endian' }));
addGguf('bad-tensor-count', { tensorCount: 2n ** 63n }, (m) => limit(m.counts));
addGguf('tensor-count-beyond-the-file', { tensorCount: 100_000 }, (m) => cut(m.tensor0));
addGguf('bad-key-count', { kvCount: 2n ** 63n }, (m) => limit(m.counts + 8));
addGguf('key-count-beyond-the-file', { kvCount: 90_000 }, (m) => cut(m.counts + 16));
addGguf('bad-key-size', { keySize: 2n ** 63n }, (m) => limit(m['general.architecture']));
addGguf('bad-key-characters', { kv: [['general.\u0000name', STRING, (x) => x.string('x')]] }, (m) => bad(m.key));
addGguf('reserved-key', { kv: [['__proto__', STRING, (x) => x.string('x')]] }, (m) => bad(m.key));
addGguf('bad-value-type', { kv: [['general.name', 13, (x) => x.u32(0)]] }, (m) => bad(m.valueType));
addGguf('bad-item-type', { kv: [['a.list', ARRAY, (x) => x.u32(99).u64(1).u32(0)]] }, (m) => bad(m.value));
addGguf('array-beyond-the-file', { kv: [['a.list', ARRAY, (x) => x.u32(U32).u64(1_000_000).u32(0)]] }, (m) => cut(m.value + 12));
addGguf(
  'array-too-long',
  {
    kv: [
      [
        'a.list',
        ARRAY,
        (x) =>
          x
            .u32(0)
            .u64(2n ** 40n)
            .u32(0),
      ],
    ],
  },
  (m) => limit(m.value),
);
addGguf(
  'arrays-too-deep',
  {
    kv: [
      [
        'a.list',
        ARRAY,
        (x) =>
          [0, 1, 2, 3, 4]
            .reduce((y) => y.u32(ARRAY).u64(1), x)
            .u32(U32)
            .u64(0),
      ],
    ],
  },
  (m) => limit(m.value + 3 * 12),
);
addGguf('bad-bool', { kv: [['a.flag', 7, (x) => x.raw(2)]] }, (m) => bad(m.value));
addGguf('bad-utf8', { kv: [['general.name', STRING, (x) => x.u64(2).raw(0xc3, 0x28)]] }, (m) => bad(m.value + 8));
addGguf('duplicate-key', { kv: [0, 1].map(() => ['general.name', STRING, (x) => x.string('x')]) }, (m) => bad(m.key));
addGguf('alignment-0', { keyAlign: 0 }, (m) => bad(m['general.alignment']));
addGguf('alignment-not-a-power-of-two', { keyAlign: 48 }, (m) => bad(m['general.alignment']));
addGguf('alignment-of-another-type', { keyAlign: 32, alignType: 5 }, (m) => bad(m['general.alignment']));
addGguf('alignment-of-another-file', { align: 32, keyAlign: 128 }, (m) => bad(m.offset, { tensor: 'b.weight' }));
addGguf('bad-name-size', { tensors: [A({ nameSize: 2n ** 63n })] }, (m) => limit(m.tensor));
addGguf('no-name', { tensors: [A({ name: '' })] }, (m) => bad(m.tensor));
addGguf('reserved-name', { tensors: [A({ name: 'constructor' })] }, (m) => bad(m.tensor));
addGguf('duplicate-name', { tensors: [A(), B({ name: 'a.weight' })] }, (m) => bad(m.tensor1, { tensor: 'a.weight' }));
addGguf('bad-rank', { tensors: [A({ rank: 5 })] }, (m) => bad(m.tensor, { tensor: 'a.weight' }));
addGguf('bad-shape', { tensors: [A({ dims: [31, 2] })] }, (m) => bad(m.tensor, { tensor: 'a.weight' }));
addGguf('axis-too-long', { tensors: [A({ dims: [32, 2n ** 62n] })] }, (m) => limit(m.tensor, { tensor: 'a.weight' }));
addGguf('too-many-elements', { tensors: [A({ dims: [2 ** 31, 2 ** 31, 2 ** 31] })] }, (m) => limit(m.tensor, { tensor: 'a.weight' }));
addGguf('too-many-bytes', { tensors: [A({ type: 0, dims: [2 ** 30, 2 ** 22] })] }, (m) => limit(m.tensor, { tensor: 'a.weight' }));
addGguf('bad-type', { tensors: [A({ type: 99 })] }, (m) => bad(m.tensor, { tensor: 'a.weight' }));
addGguf('retired-type', { tensors: [A({ type: 4 })] }, (m) => bad(m.tensor, { tensor: 'a.weight' }));
addGguf('bad-offset', { tensors: [A({ offset: 1 })] }, (m) => bad(m.offset, { tensor: 'a.weight' }));
addGguf('overlapping', { tensors: [A(), B({ offset: 0 })] }, (m) => bad(m.offset, { tensor: 'b.weight' }));
addGguf('hole', { tensors: [A(), B({ offset: 128 })] }, (m) => bad(m.offset, { tensor: 'b.weight' }));
addGguf('data-cut', { cut: 20 }, (_, size) => cut(size, { tensor: 'b.weight' }));
const whole = gguf();
add('gguf/header-cut.gguf', whole.bytes.subarray(0, whole.marks.offset + 1), cut(whole.marks.offset));
addGguf('something-behind', { behind: 32 }, (_, size) => bad(size - 32));
addGguf('unreadable-type', { tensors: [A({ type: 9, bytes: 72 })] }, (m) => ({
  code: 'model/unsupported',
  offset: m.data,
  tensor: 'a.weight',
}));

// --- safetensors --------------------------------------------------------------------------------------------------------------------------

function safetensors(header, data, o = {}) {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  return bytes()
    .u64(o.length ?? json.length)
    .raw(...json)
    .raw(...data)
    .done();
}
const zeros = (n) => Array(n).fill(0);
const f16 = (shape, from, to, more = {}) => ({ dtype: 'F16', shape, data_offsets: [from, to], ...more });

/** Where a text begins in the file. */
function place(file, text) {
  const at = Buffer.from(file).indexOf(text);
  if (at < 0) throw new Error(`no ${text}`);
  return at;
}
function addSafetensors(name, file, expect) {
  add(`safetensors/${name}.safetensors`, file, expect(file));
}
const valid = { a: f16([2, 2], 0, 8), b: f16([2], 8, 12) };
addSafetensors('valid', safetensors(valid, zeros(12)), () => ok);
addSafetensors('valid-empty', safetensors({}, []), () => ok);
addSafetensors('valid-empty-tensor', safetensors({ a: f16([0, 4], 0, 0), b: f16([2], 0, 4) }, zeros(4)), () => ok);
addSafetensors('valid-spaces', safetensors(`${JSON.stringify(valid, null, 1)}   `, zeros(12)), () => ok);
addSafetensors('too-short', Uint8Array.of(1, 0, 0), () => cut(0));
addSafetensors('header-beyond-the-file', safetensors(valid, [], { length: 10_000 }), () => cut(0));
addSafetensors('header-length-huge', safetensors(valid, zeros(12), { length: 2n ** 63n }), () => limit(0));
addSafetensors('not-an-object', safetensors('[1]', []), () => bad(8));
addSafetensors('not-json', safetensors('{"a":', []), () => bad(13));
addSafetensors(
  'duplicate-tensor',
  safetensors(`{"a":${JSON.stringify(f16([2], 0, 4))},"a":${JSON.stringify(f16([2], 0, 4))}}`, zeros(4)),
  (f) => bad(Buffer.from(f).lastIndexOf('"a"')),
);
addSafetensors('reserved-name', safetensors(`{"__proto__":${JSON.stringify(f16([2], 0, 4))}}`, zeros(4)), (f) =>
  bad(place(f, '"__proto__"')),
);
addSafetensors('metadata-not-strings', safetensors({ __metadata__: { a: 1 }, ...valid }, zeros(12)), (f) => bad(place(f, '1}')));
addSafetensors('unknown-dtype', safetensors({ a: f16([2], 0, 4, { dtype: 'F7' }) }, zeros(4)), (f) =>
  bad(place(f, '"a"'), { tensor: 'a' }),
);
addSafetensors('unknown-field', safetensors({ a: f16([2], 0, 4, { stride: 1 }) }, zeros(4)), (f) =>
  bad(place(f, '"stride"'), { tensor: 'a' }),
);
addSafetensors('missing-field', safetensors({ a: { dtype: 'F16', shape: [2] } }, zeros(4)), (f) => bad(place(f, '"a"'), { tensor: 'a' }));
addSafetensors('negative-extent', safetensors({ a: f16([-2], 0, 4) }, zeros(4)), (f) => bad(place(f, '-2')));
addSafetensors('fractional-extent', safetensors(`{"a":{"dtype":"F16","shape":[1.5],"data_offsets":[0,4]}}`, zeros(4)), (f) =>
  bad(place(f, '1.5')),
);
addSafetensors('axis-too-long', safetensors({ a: f16([2 ** 33], 0, 4) }, zeros(4)), (f) => limit(place(f, '"a"'), { tensor: 'a' }));
addSafetensors('shape-overflow', safetensors({ a: f16([2 ** 31, 2 ** 31], 0, 4) }, zeros(4)), (f) =>
  limit(place(f, '"a"'), { tensor: 'a' }),
);
addSafetensors('shape-of-other-bytes', safetensors({ a: f16([3], 0, 4) }, zeros(4)), (f) => bad(place(f, '"a"'), { tensor: 'a' }));
addSafetensors('offsets-reversed', safetensors({ a: f16([2], 4, 0) }, zeros(4)), (f) => bad(place(f, '"a"'), { tensor: 'a' }));
addSafetensors('overlap', safetensors({ a: f16([2], 0, 4), b: f16([2], 2, 6) }, zeros(6)), (f) => bad(f.length - 6 + 2, { tensor: 'b' }));
addSafetensors('hole', safetensors({ a: f16([2], 0, 4), b: f16([2], 8, 12) }, zeros(12)), (f) => bad(f.length - 12 + 4, { tensor: 'b' }));
addSafetensors('data-cut', safetensors(valid, zeros(11)), (f) => cut(f.length, { tensor: 'b' }));
addSafetensors('something-behind', safetensors(valid, zeros(13)), (f) => bad(f.length - 1));
addSafetensors('unreadable-dtype', safetensors({ a: f16([1], 0, 8, { dtype: 'I64' }) }, zeros(8)), (f) => ({
  code: 'model/unsupported',
  offset: place(f, '"a"'),
  tensor: 'a',
}));

// --- shards -------------------------------------------------------------------------------------------------------------------------------

const one = safetensors({ a: f16([2], 0, 4) }, zeros(4));
const two = safetensors({ b: f16([2], 0, 4) }, zeros(4));
function addShards(name, index, files, expect) {
  const text = typeof index === 'string' ? index : JSON.stringify(index);
  add(`shards/${name}`, { 'model.safetensors.index.json': new TextEncoder().encode(text), ...files }, expect(text));
}
const shards = { 'm-1.safetensors': one, 'm-2.safetensors': two };
const map = { a: 'm-1.safetensors', b: 'm-2.safetensors' };
addShards('valid', { metadata: { total_size: 8 }, weight_map: map }, shards, () => ok);
addShards('missing-shard', { weight_map: map }, { 'm-1.safetensors': one }, () => ({ code: 'file/missing' }));
addShards('path-out', { weight_map: { a: '../m-1.safetensors' } }, shards, (t) => bad(t.indexOf('"../'), { tensor: 'a' }));
addShards('absolute-path', { weight_map: { a: '/etc/passwd.safetensors' } }, shards, (t) => bad(t.indexOf('"/etc'), { tensor: 'a' }));
addShards('tensor-in-another-shard', { weight_map: { a: 'm-2.safetensors', b: 'm-1.safetensors' } }, shards, () => ({
  code: 'file/format',
}));
addShards(
  'tensor-not-in-the-index',
  { weight_map: { a: 'm-1.safetensors' } },
  { 'm-1.safetensors': safetensors(valid, zeros(12)) },
  () => ({ code: 'file/format', tensor: 'b' }),
);
addShards('tensor-not-in-the-shard', { weight_map: { ...map, c: 'm-2.safetensors' } }, shards, () => ({
  code: 'file/format',
  tensor: 'c',
}));
addShards('wrong-total', { metadata: { total_size: 9 }, weight_map: map }, shards, () => ({ code: 'file/format' }));
addShards('no-map', { metadata: {} }, shards, () => bad(0));
addShards('not-json', '{"weight_map": {', shards, (t) => bad(t.length));

// --- lmq folders --------------------------------------------------------------------------------------------------------------------------

const affine = { kind: 'affine', shape: [2, 8], bits: 4, groupSize: 8, scales: { block: [1, 8], format: 'fp16' }, zeroPoints: true };
const parts = {
  'w.codes': { dtype: 'U8', shape: [2, 4], data_offsets: [0, 8] },
  'w.scales': f16([2, 1], 8, 12),
  'w.zero_points': { dtype: 'U8', shape: [1], data_offsets: [12, 13] },
};
const data = [...zeros(8), 0, 0x3c, 0, 0x3c, 0x88];
function addLmq(name, manifest, expect, header = parts, body = data) {
  const text = typeof manifest === 'string' ? manifest : JSON.stringify(manifest);
  add(`lmq/${name}`, { 'lmq.json': new TextEncoder().encode(text), 'model.safetensors': safetensors(header, body) }, expect(text));
}
const lmq = (layout = affine, entry = {}) => ({ lmq: 1, info: {}, tensors: { w: { shape: [2, 8], layout, ...entry } } });
const atW = (t) => bad(t.indexOf('"w"'), { tensor: 'w' });
addLmq('valid', lmq(), () => ok);
addLmq('version', { ...lmq(), lmq: 2 }, (t) => bad(t.indexOf('"lmq"')));
addLmq('unknown-field', { ...lmq(), extra: 1 }, (t) => bad(t.indexOf('"extra"')));
addLmq('unknown-layout', lmq({ ...affine, kind: 'vector' }), atW);
addLmq('unknown-layout-field', lmq({ ...affine, stride: 1 }), atW);
addLmq('bits', lmq({ ...affine, bits: 9 }), atW);
addLmq('shape-of-another', lmq(affine, { shape: [4, 4] }), atW);
addLmq('part-missing', lmq(), atW, { 'w.codes': parts['w.codes'], 'w.scales': parts['w.scales'] }, data.slice(0, 12));
addLmq('part-of-another-shape', lmq({ ...affine, groupSize: 4, scales: { block: [1, 4], format: 'fp16' } }), atW);
addLmq('part-left-over', { lmq: 1, tensors: {} }, () => ({ code: 'file/format', tensor: 'w.codes' }));
addLmq('scale-nan', lmq(), () => ({ code: 'file/format', tensor: 'w' }), parts, [...zeros(8), 0, 0x7e, 0, 0x3c, 0x88]);
addLmq('not-a-manifest', '[]', () => bad(0));

// --- GPTQ and AWQ folders -----------------------------------------------------------------------------------------------------------------

const ARRAYS = { I64: BigInt64Array, I32: Int32Array, F32: Float32Array, U8: Uint8Array, I8: Int8Array };

/** Tensors one after the other, as a safetensors file. */
function pack(tensors) {
  const header = {};
  const body = [];
  for (const [name, [dtype, shape, values]] of Object.entries(tensors)) {
    const chunk = new Uint8Array((ARRAYS[dtype] ?? Uint16Array).from(values).buffer);
    header[name] = { dtype, shape, data_offsets: [body.length, body.length + chunk.length] };
    body.push(...chunk);
  }
  return safetensors(header, body);
}
const fill = (n, value) => Array(n).fill(value);

/** A linear of 32 outputs and 64 inputs, 4 bits, groups of 32, symmetric in version 1. */
const gptqLinear = () => ({
  'l.qweight': ['I32', [8, 32], fill(256, 0x12345678)],
  'l.qzeros': ['I32', [2, 4], fill(8, 0x77777777)],
  'l.scales': ['F16', [2, 32], fill(64, 0x2000)],
  'l.g_idx': ['I32', [64], Array.from({ length: 64 }, (_, i) => Math.floor(i / 32))],
});
const gptqConfig = { quant_method: 'gptq', bits: 4, group_size: 32, sym: true, desc_act: false, checkpoint_format: 'gptq' };
function addQuantized(name, config, tensors, expect) {
  const json = new TextEncoder().encode(JSON.stringify({ quantization_config: config }));
  add(name, { 'config.json': json, 'model.safetensors': pack(tensors) }, expect);
}
const gptq = (name, config, change, expect) => {
  const tensors = gptqLinear();
  change(tensors);
  addQuantized(`gptq/${name}`, { ...gptqConfig, ...config }, tensors, expect);
};
const same = () => {};
const config = { code: 'model/config' };
const configOf = { code: 'model/config', tensor: 'l.weight' };
const damaged = { code: 'file/format', tensor: 'l.weight' };
const unsupported = { code: 'model/unsupported' };
gptq('valid', {}, same, ok);
gptq('valid-v2', { checkpoint_format: 'gptq_v2' }, (t) => t['l.qzeros'][2].fill(0x88888888 | 0), ok);
gptq('labelled-v2', { checkpoint_format: 'gptq_v2' }, same, configOf);
gptq('labelled-v1', {}, (t) => t['l.qzeros'][2].fill(0x88888888 | 0), configOf);
gptq('labelled-symmetric', {}, (t) => t['l.qzeros'][2].fill(0x66666666), configOf);
gptq('labelled-in-order', {}, (t) => t['l.g_idx'][2].reverse(), configOf);
gptq('group-that-is-none', { desc_act: true }, (t) => (t['l.g_idx'][2][5] = 7), damaged);
gptq('group-negative', { desc_act: true }, (t) => (t['l.g_idx'][2][5] = -1), damaged);
gptq('groups-uneven', { desc_act: true }, (t) => (t['l.g_idx'][2][40] = 0), damaged);
gptq('act-order-without-index', { desc_act: true }, (t) => delete t['l.g_idx'], damaged);
gptq('zero-points-missing', {}, (t) => delete t['l.qzeros'], damaged);
gptq('scales-missing', {}, (t) => delete t['l.scales'], damaged);
gptq('scale-infinite', {}, (t) => (t['l.scales'][2][3] = 0x7c00), damaged);
gptq('weights-of-other-length', {}, (t) => (t['l.qweight'] = ['I32', [9, 32], fill(288, 0)]), damaged);
gptq(
  'outputs-not-of-32',
  {},
  (t) =>
    Object.assign(t, {
      'l.qweight': ['I32', [8, 16], fill(128, 0)],
      'l.qzeros': ['I32', [2, 2], fill(4, 0x77777777)],
      'l.scales': ['F16', [2, 16], fill(32, 0x2000)],
    }),
  damaged,
);
gptq('weights-of-other-dtype', {}, (t) => (t['l.qweight'] = ['F16', [8, 32], fill(256, 0)]), damaged);
gptq('part-of-another-tool', {}, (t) => (t['l.perm'] = ['I32', [64], fill(64, 0)]), { code: 'file/format', tensor: 'l.perm' });
gptq('part-without-weights', {}, (t) => (t['m.qzeros'] = ['I32', [2, 4], fill(8, 0)]), { code: 'file/format', tensor: 'm.qzeros' });
gptq('bits-of-another', { bits: 8 }, same, configOf);
gptq('bits-5', { bits: 5 }, same, unsupported);
gptq('bits-text', { bits: '4' }, same, config);
gptq('group-size-of-another', { group_size: 16 }, same, configOf);
gptq('group-size-0', { group_size: 0 }, same, config);
gptq('marlin', { is_marlin_format: true }, same, unsupported);
gptq('packed-into-int16', { pack_dtype: 'int16' }, same, unsupported);
gptq('unknown-format', { checkpoint_format: 'gptq_v9' }, same, unsupported);
gptq('awq-inside', { quant_method: 'awq', version: 'gemm' }, (t) => delete t['l.g_idx'], { ...damaged, message: 'should be gptq' });

const awqLinear = () => ({
  'l.qweight': ['I32', [64, 4], fill(256, 0x12345678)],
  'l.qzeros': ['I32', [2, 4], fill(8, 0x77777777)],
  'l.scales': ['F16', [2, 32], fill(64, 0x2000)],
});
const awq = (name, over, change, expect) => {
  const tensors = awqLinear();
  change(tensors);
  addQuantized(
    `awq/${name}`,
    { quant_method: 'awq', bits: 4, group_size: 32, zero_point: true, version: 'gemm', ...over },
    tensors,
    expect,
  );
};
awq('valid', {}, same, ok);
awq('labelled-symmetric', { zero_point: false }, same, configOf);
awq('gemv', { version: 'gemv' }, same, unsupported);
awq('bits-3', { bits: 3 }, same, unsupported);
awq('group-size-of-another', { group_size: 64 }, same, configOf);
awq('zero-points-missing', {}, (t) => delete t['l.qzeros'], damaged);
awq('zero-points-of-another-shape', {}, (t) => (t['l.qzeros'] = ['I32', [4, 2], fill(8, 0)]), damaged);
awq('scale-nan', {}, (t) => (t['l.scales'][2][0] = 0x7e00), damaged);
awq('act-order', {}, (t) => (t['l.g_idx'] = ['I32', [64], fill(64, 0)]), { code: 'file/format', tensor: 'l.g_idx' });
awq('gptq-inside', { quant_method: 'gptq', sym: true }, same, { ...damaged, message: 'should be awq' });

// --- compressed-tensors -------------------------------------------------------------------------------------------------------------------

/** Cases of one tool: `linear` makes its tensors, `label` is its configuration. */
const tool = (format, linear, label) => (name, over, change, expect) => {
  const tensors = linear();
  change(tensors);
  addQuantized(`${format}/${name}`, { quant_method: format, ...label, ...over }, tensors, expect);
};
const group = (weights, more = {}) => ({
  config_groups: {
    group_0: { targets: ['Linear'], weights: { num_bits: 4, type: 'int', symmetric: true, strategy: 'group', group_size: 32, ...weights } },
  },
  ...more,
});

/** A linear of 4 outputs and 64 inputs, 4 bits, groups of 32, symmetric. */
const compressed = tool(
  'compressed-tensors',
  () => ({
    'l.weight_packed': ['I32', [4, 8], fill(32, 0x12345678)],
    'l.weight_shape': ['I64', [2], [4n, 64n]],
    'l.weight_scale': ['F16', [4, 2], fill(8, 0x2000)],
  }),
  group({}, { format: 'pack-quantized', ignore: ['lm_head'] }),
);
compressed('valid', {}, same, ok);
compressed(
  'valid-fp8',
  group({ num_bits: 8, type: 'float', strategy: 'channel', group_size: null }, { format: 'float-quantized' }),
  (t) => {
    delete t['l.weight_shape'];
    delete t['l.weight_packed'];
    t['l.weight'] = ['F8_E4M3', [4, 64], fill(128, 0x3838)];
    t['l.weight_scale'] = ['F16', [4, 1], fill(4, 0x2000)];
  },
  ok,
);
compressed('bits-of-another', group({ num_bits: 8 }), same, configOf);
compressed('group-size-of-another', group({ group_size: 16 }), same, configOf);
compressed('labelled-asymmetric', group({ symmetric: false }), same, configOf);
compressed('zero-points-unannounced', {}, (t) => (t['l.weight_zero_point'] = ['I32', [1, 2], fill(2, 0x7777)]), configOf);
compressed('shape-of-another', {}, (t) => (t['l.weight_shape'][2] = [4n, 128n]), configOf);
compressed('shape-negative', {}, (t) => (t['l.weight_shape'][2] = [-4n, 64n]), damaged);
compressed('shape-missing', {}, (t) => delete t['l.weight_shape'], damaged);
compressed('scales-missing', {}, (t) => delete t['l.weight_scale'], { ...damaged, tensor: 'l.weight_packed' });
compressed('scale-nan', {}, (t) => (t['l.weight_scale'][2][3] = 0x7e00), damaged);
compressed('group-that-is-none', group({ actorder: 'group' }), (t) => (t['l.weight_g_idx'] = ['I32', [64], fill(64, 7)]), damaged);
compressed('format-of-another', group({}, { format: 'float-quantized' }), same, configOf);
compressed('unknown-format', { format: 'marlin-24' }, same, unsupported);
compressed('sparse', { sparsity_config: { format: 'sparse-bitmask' } }, same, unsupported);
compressed('no-groups', { config_groups: [] }, same, config);

// --- bitsandbytes -------------------------------------------------------------------------------------------------------------------------

const NF4 = [
  ...[-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334],
  ...[-0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224],
  ...[0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1],
];
const json = (value) => {
  const text = [...new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value))];
  return ['U8', [text.length], text];
};
const STATE = 'l.weight.quant_state.bitsandbytes__nf4';
const state = { quant_type: 'nf4', blocksize: 64, dtype: 'bfloat16', shape: [4, 64] };

/** A linear of 4 outputs and 64 inputs, NF4 in blocks of 64. */
const nf4 = tool(
  'bitsandbytes',
  () => ({
    'l.weight': ['U8', [128, 1], fill(128, 0x4b)],
    'l.weight.absmax': ['F32', [4], fill(4, 0.5)],
    'l.weight.quant_map': ['F32', [16], [...NF4]],
    [STATE]: json(state),
  }),
  { load_in_4bit: true, load_in_8bit: false, bnb_4bit_quant_type: 'nf4' },
);
nf4('valid', {}, same, ok);
nf4('labelled-8-bit', { load_in_4bit: false, load_in_8bit: true }, same, configOf);
nf4('no-bits', { load_in_4bit: false }, same, config);
nf4('state-of-another-shape', {}, (t) => (t[STATE] = json({ ...state, shape: [8, 64] })), damaged);
nf4('state-of-another-type', {}, (t) => (t[STATE] = json({ ...state, quant_type: 'fp4' })), damaged);
nf4('state-of-another-block', {}, (t) => (t[STATE] = json({ ...state, blocksize: 128 })), damaged);
nf4('state-block-0', {}, (t) => (t[STATE] = json({ ...state, blocksize: 0 })), damaged);
nf4('state-not-json', {}, (t) => (t[STATE] = json('{"quant_type": ')), damaged);
nf4('state-unknown-field', {}, (t) => (t[STATE] = json({ ...state, scale: 2 })), damaged);
nf4('state-without-scales-of-scales', {}, (t) => (t[STATE] = json({ ...state, nested_blocksize: 256, nested_offset: 0.1 })), damaged);
nf4('state-missing', {}, (t) => delete t[STATE], { ...damaged, tensor: 'l.weight.absmax' });
nf4('table-of-another', {}, (t) => (t['l.weight.quant_map'][2][3] = 0), { ...unsupported, tensor: 'l.weight' });
nf4('table-short', {}, (t) => (t['l.weight.quant_map'] = ['F32', [15], NF4.slice(1)]), damaged);
nf4('scale-nan', {}, (t) => (t['l.weight.absmax'][2][1] = Number.NaN), damaged);
const int8 = tool(
  'bitsandbytes',
  () => ({
    'l.weight': ['I8', [4, 64], fill(256, -3)],
    'l.SCB': ['F32', [4], fill(4, 0.5)],
    'l.weight_format': ['U8', [], [0]],
  }),
  { load_in_4bit: false, load_in_8bit: true },
);
int8('valid-int8', {}, same, ok);
int8('int8-scales-of-another', {}, (t) => (t['l.SCB'] = ['F32', [5], fill(5, 0.5)]), damaged);
int8('int8-order-of-a-gpu', {}, (t) => (t['l.weight_format'][2] = [1]), { ...unsupported, tensor: 'l.weight' });
int8('int8-weights-missing', {}, (t) => delete t['l.weight'], damaged);

// --- HQQ ----------------------------------------------------------------------------------------------------------------------------------

/** A linear of 4 outputs and 64 inputs, 4 bits, groups of 64. */
const hqq = tool(
  'hqq',
  () => ({
    'l.W_q': ['U8', [2, 64], fill(128, 0x4b)],
    'l.nbits': ['I32', [], [4]],
    'l.group_size': ['I32', [], [64]],
    'l.shape': ['I64', [2], [4n, 64n]],
    'l.axis': ['I32', [], [1]],
    'l.scale': ['F16', [4, 1], fill(4, 0x2000)],
    'l.zero': ['F16', [4, 1], fill(4, 0x4780)],
    'l.quant_scale': ['U8', [], [0]],
    'l.quant_zero': ['U8', [], [0]],
  }),
  { quant_config: { weight_quant_params: { nbits: 4, group_size: 64 } } },
);
hqq('valid', {}, same, ok);
hqq('valid-axis-0', {}, (t) => (t['l.axis'][2] = [0]), ok);
hqq('scales-missing', {}, (t) => delete t['l.scale'], damaged);
hqq('shape-missing', {}, (t) => delete t['l.shape'], damaged);
hqq('shape-of-another', {}, (t) => (t['l.shape'][2] = [8n, 64n]), damaged);
hqq('bits-7', {}, (t) => (t['l.nbits'][2] = [7]), damaged);
hqq('bits-of-another', {}, (t) => (t['l.nbits'][2] = [8]), damaged);
hqq('group-size-of-another', {}, (t) => (t['l.group_size'][2] = [48]), damaged);
hqq('axis-2', {}, (t) => (t['l.axis'][2] = [2]), damaged);
hqq('zero-point-nan', {}, (t) => (t['l.zero'][2][3] = 0x7e00), damaged);
hqq('code-that-is-none', {}, (t) => Object.assign(t, { 'l.nbits': ['I32', [], [5]], 'l.W_q': ['U8', [4, 64], fill(256, 40)] }), damaged);
hqq('scales-quantized', {}, (t) => (t['l.quant_scale'][2] = [1]), { ...unsupported, tensor: 'l.weight' });
hqq('method-of-another', { quant_method: 'gptq', bits: 4, group_size: 64 }, same, config);

// --- AutoRound ----------------------------------------------------------------------------------------------------------------------------

const autoRound = tool('auto-round', gptqLinear, {
  packing_format: 'auto_round:auto_gptq',
  bits: 4,
  group_size: 32,
  sym: true,
  data_type: 'int',
});
autoRound('valid', {}, same, ok);
autoRound('labelled-v2', { packing_format: 'auto_round:gptqmodel' }, same, configOf);
autoRound('labelled-awq', { packing_format: 'auto_round:auto_awq' }, same, { code: 'file/format' });
autoRound('unknown-packing', { packing_format: 'auto_round:marlin' }, same, unsupported);
autoRound('floats', { data_type: 'mx_fp' }, same, unsupported);
autoRound('activations', { act_bits: 8 }, same, unsupported);
autoRound('rotated', { rotation_config: { type: 'hadamard' } }, same, unsupported);
autoRound('bits-of-another', { bits: 8 }, same, configOf);
autoRound('rules-of-another-kind', { extra_config: ['lm_head'] }, same, config);
autoRound('zero-points-missing', {}, (t) => delete t['l.qzeros'], damaged);
autoRound('act-order', {}, (t) => t['l.g_idx'][2].reverse(), configOf);

// --- ONNX ---------------------------------------------------------------------------------------------------------------------------------

const varint = (n) => {
  const out = [];
  for (let v = BigInt.asUintN(64, BigInt(n)); ; v >>= 7n) {
    out.push(Number(v & 127n) | (v > 127n ? 128 : 0));
    if (v <= 127n) return out;
  }
};
const number = (field, n) => [...varint(field << 3), ...varint(n)];
const message = (field, ...parts) => {
  const body = parts.flat();
  return [...varint((field << 3) | 2), ...varint(body.length), ...body];
};
const text = (field, s) => message(field, [...new TextEncoder().encode(s)]);
const attribute = (name, value) => message(5, text(1, name), number(3, value), number(20, 2));
const initializer = (name, type, dims, data) =>
  message(
    5,
    ...dims.map((d) => number(1, d)),
    number(2, type),
    text(8, name),
    ...(Array.isArray(data) ? [message(9, data)] : [data.external]),
  );
const beside = (...pairs) => ({
  external: [...pairs.flatMap(([key, value]) => message(13, text(1, key), text(2, value))), ...number(14, 1)],
});
const FLOAT = 1;
const UINT8 = 2;

/** x W^T with W [2, 32] of 4 bits in blocks of 32. */
function onnx(name, expect, o = {}) {
  const { bits = 4, codes = initializer('w_Q4', UINT8, [2, 1, 16], fill(32, 0x4b)), more = [] } = o;
  const scales = o.scales ?? initializer('w_scales', FLOAT, [2, 1], [0, 0, 0, 63, 0, 0, 0, 63]);
  const attributes = [attribute('K', 32), attribute('N', 2), attribute('bits', bits), attribute('block_size', 32)];
  const node = message(
    1,
    ...['x', 'w_Q4', 'w_scales'].map((input) => text(1, input)),
    text(2, 'y'),
    text(4, 'MatMulNBits'),
    ...attributes,
    text(7, 'com.microsoft'),
  );
  const bytes = [...number(1, 9), ...message(7, node, codes, scales, ...more)];
  add(`onnx/${name}.onnx`, Uint8Array.from(o.bytes?.(bytes) ?? bytes), expect);
}
const inW = { code: 'file/format', tensor: 'w' };
const row = (name, data) => initializer(name, FLOAT, [4], data ?? fill(16, 0));
onnx('valid', ok);
onnx('valid-floats', ok, { more: [row('norm')] });
onnx('empty', bad(0), { bytes: () => [] });
onnx('no-graph', bad(0), { bytes: () => number(1, 9) });
onnx('cut', { code: 'file/truncated' }, { bytes: (b) => b.slice(0, -5) });
onnx('number-without-end', { code: 'file/format' }, { bytes: (b) => [...b, ...fill(11, 0xff)] });
onnx('two-of-one-name', { code: 'file/format', tensor: 'norm' }, { more: [row('norm'), row('norm')] });
onnx('reserved-name', { code: 'file/format', tensor: '__proto__' }, { more: [row('__proto__')] });
onnx('negative-extent', { code: 'file/format', tensor: 'norm' }, { more: [initializer('norm', FLOAT, [-4], fill(16, 0))] });
onnx('data-short', { code: 'file/format', tensor: 'norm' }, { more: [row('norm', fill(12, 0))] });
onnx('path-out', { code: 'file/format', tensor: 'norm' }, { more: [row('norm', beside(['location', '../norm.bin']))] });
onnx(
  'offset-not-a-number',
  { code: 'file/format', tensor: 'norm' },
  { more: [row('norm', beside(['location', 'n.data'], ['offset', '-1']))] },
);
onnx('data-missing', { code: 'file/missing' }, { more: [row('norm', beside(['location', 'norm.onnx_data']))] });
onnx('codes-of-another-length', inW, { codes: initializer('w_Q4', UINT8, [2, 1, 8], fill(16, 0x4b)) });
onnx('codes-of-another-width', inW, { bits: 8 });
onnx('scale-nan', inW, { scales: initializer('w_scales', FLOAT, [2, 1], [0, 0, 0xc0, 0x7f, 0, 0, 0, 63]) });

// --- GGUF in parts ------------------------------------------------------------------------------------------------------------------------

const U16 = 2;
const I32 = 5;
const splitKeys = ({ no, count = 2, tensors = 2 }) => [
  ['split.no', U16, (x) => x.raw(no & 255, no >> 8)],
  ['split.count', U16, (x) => x.raw(count & 255, count >> 8)],
  ['split.tensors.count', I32, (x) => x.u32(tensors)],
];
const splitName = (no, count = 2) => `m-0000${no + 1}-of-0000${count}.gguf`;
const splitPart = (keys, tensor) => gguf({ kv: splitKeys(keys), tensors: [tensor] }).bytes;
const first = splitPart({ no: 0 }, A());
const second = splitPart({ no: 1 }, B());
const addSplit = (name, files, expect) => add(`split/${name}`, files, expect);
const wrong = { code: 'file/format' };
addSplit('valid', { [splitName(0)]: first, [splitName(1)]: second }, ok);
addSplit('part-missing', { [splitName(0)]: first }, { code: 'file/missing' });
addSplit('part-twice', { [splitName(0)]: first, [splitName(1)]: first }, wrong);
addSplit('part-of-another', { [splitName(0)]: first, [splitName(1)]: splitPart({ no: 1, tensors: 3 }, B()) }, wrong);
addSplit('part-that-is-whole', { [splitName(0)]: first, [splitName(1)]: gguf({ kv: [], tensors: [B()] }).bytes }, wrong);
addSplit('part-damaged', { [splitName(0)]: first, [splitName(1)]: second.subarray(0, second.length - 20) }, { code: 'file/truncated' });
addSplit('tensor-twice', { [splitName(0)]: first, [splitName(1)]: splitPart({ no: 1 }, A()) }, { ...wrong, tensor: 'a.weight' });
addSplit(
  'tensors-left-out',
  { [splitName(0)]: splitPart({ no: 0, tensors: 3 }, A()), [splitName(1)]: splitPart({ no: 1, tensors: 3 }, B()) },
  wrong,
);
addSplit('number-beyond-the-count', { [splitName(0)]: splitPart({ no: 5 }, A()) }, wrong);
addSplit('misnamed', { 'model.gguf': first }, wrong);

// --- importance matrices ------------------------------------------------------------------------------------------------------------------

const sums = (over = {}) => ({ name: 'a.weight.in_sum2', dims: [8, 1], type: 0, bytes: 32, ...over });
const counts = (over = {}) => ({ name: 'a.weight.counts', dims: [1, 1], type: 0, bytes: 4, ...over });
const imatrix = (name, tensors, expect) =>
  add(`imatrix/${name}.gguf`, gguf({ kv: [['general.type', STRING, (x) => x.string('imatrix')]], tensors }).bytes, expect);
const f32 = (...values) => [...new Uint8Array(Float32Array.from(values).buffer)];
imatrix('valid', [sums(), counts()], ok);
imatrix('counts-missing', [sums()], { code: 'file/format', tensor: 'a.weight.counts' });
imatrix('sums-missing', [counts()], { code: 'file/format', tensor: 'a.weight.in_sum2' });
imatrix('counts-of-other-runs', [sums(), counts({ dims: [1, 3], bytes: 12 })], { code: 'file/format' });
imatrix('sums-in-halves', [sums({ type: 1, bytes: 16 }), counts()], { code: 'file/format', tensor: 'a.weight.in_sum2' });
imatrix('sum-negative', [sums({ data: f32(1, 1, 1, -1, 1, 1, 1, 1) }), counts()], { code: 'file/format', tensor: 'a.weight' });
imatrix('sum-nan', [sums({ data: f32(1, 1, 1, Number.NaN, 1, 1, 1, 1) }), counts()], { code: 'file/format', tensor: 'a.weight' });
imatrix('of-weights', [A()], { code: 'file/format' });
const dat = (name, b, expect) => add(`imatrix/${name}.dat`, b.done(), expect);
const entry = (b, n = 2) =>
  b
    .u32(1)
    .u32(1)
    .text('a')
    .u32(3)
    .u32(n)
    .raw(...f32(1, 2));
dat('valid', entry(bytes()), ok);
dat('cut', entry(bytes(), 3), { code: 'file/truncated' });
dat('name-beyond-the-file', bytes().u32(1).u32(4000).text('a'), { code: 'file/truncated' });
dat('no-entries', bytes().u32(0), { code: 'file/format' });

writeFileSync(
  join(here, 'expected.json'),
  `{\n${Object.entries(expected)
    .map(([k, v]) => ` ${JSON.stringify(k)}: ${JSON.stringify(v)}`)
    .join(',\n')}\n}\n`,
);
