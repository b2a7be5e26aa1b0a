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
  for (const t of tensors) b.raw(...Array(t.bytes).fill(1)).pad(align);
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

/** Tensors one after the other, as a safetensors file. */
function pack(tensors) {
  const header = {};
  const body = [];
  for (const [name, [dtype, shape, values]] of Object.entries(tensors)) {
    const chunk = new Uint8Array((dtype === 'I32' ? Int32Array : Uint16Array).from(values).buffer);
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

writeFileSync(
  join(here, 'expected.json'),
  `{\n${Object.entries(expected)
    .map(([k, v]) => ` ${JSON.stringify(k)}: ${JSON.stringify(v)}`)
    .join(',\n')}\n}\n`,
);
