import { encodeBlocks, encodeMx, encodeNvfp4, encodeTable4, packRows, packStream } from '@lmq/formats';
import {
  type Affine,
  type CompressedTensor,
  createRng,
  type Dense,
  type FloatFormat,
  type InputQuant,
  type Lut,
  matrix,
  ndarray,
} from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import type { LmqEntry, SafetensorsFile, TensorToWrite } from '../src/api.js';
import { openLmq } from '../src/lmq.js';
import { lmqManifest, toLmqTensors } from '../src/lmq-write.js';
import { openSafetensors } from '../src/safetensors.js';
import { writeSafetensors } from '../src/safetensors-write.js';
import { memorySink } from '../src/sources.js';
import { expectFailure, failure, source } from './_files.js';

const rng = createRng(3);
const normals = (n: number) => Float32Array.from({ length: n }, rng.normal);
const codesOf = (rows: number, cols: number, bits: number) =>
  packRows(
    Uint8Array.from({ length: rows * cols }, () => rng.below(2 ** bits)),
    bits,
    rows,
    cols,
  );
const halves = (n: number) => Uint16Array.from({ length: n }, () => 0x2c00 + rng.below(1024)); // finite in fp16 and bf16

function dense(rows: number, cols: number, format: FloatFormat = 'bf16'): Dense {
  return { kind: 'dense', shape: [rows, cols], format, data: format === 'fp32' ? normals(rows * cols) : halves(rows * cols) };
}

function affine(
  rows: number,
  cols: number,
  bits: number,
  groupSize: number,
  format: FloatFormat,
  extras: { zero?: boolean; index?: boolean } = {},
): Affine {
  const groups = Math.ceil(cols / groupSize);
  const n = rows * groups;
  const t: Affine = {
    kind: 'affine',
    shape: [rows, cols],
    bits,
    groupSize,
    codes: codesOf(rows, cols, bits),
    scales: { block: [1, groupSize], format, data: format === 'fp32' ? normals(n) : halves(n) },
  };
  if (extras.zero)
    t.zeroPoints = packStream(
      Uint8Array.from({ length: n }, () => rng.below(2 ** bits)),
      bits,
    );
  if (extras.index) t.groupIndex = Int32Array.from({ length: cols }, () => rng.below(groups));
  return t;
}

function lut(rows: number, cols: number, tablePer: Lut['tablePer'], scaled = false): Lut {
  const n = tablePer === 'tensor' ? 1 : tablePer === 'row' ? rows : cols;
  const t: Lut = {
    kind: 'lut',
    shape: [rows, cols],
    bits: 4,
    codes: codesOf(rows, cols, 4),
    tables: matrix(normals(16 * n), n, 16),
    tablePer,
  };
  if (scaled) t.scales = { block: [1, 8], format: 'fp16', data: halves(rows * Math.ceil(cols / 8)) };
  return t;
}

const LAYOUTS: Record<string, CompressedTensor> = {
  'dense fp32': dense(3, 5, 'fp32'),
  'dense fp16': dense(3, 5, 'fp16'),
  'dense bf16': dense(3, 5, 'bf16'),
  'affine 4-bit': affine(3, 10, 4, 4, 'fp16'),
  'affine 3-bit with zero points': affine(3, 10, 3, 4, 'fp32', { zero: true }),
  'affine 1-bit': affine(2, 9, 1, 9, 'bf16'),
  'affine 4-bit with zero points in fp16': { ...affine(3, 10, 4, 4, 'fp16'), zeroPoints: { format: 'fp16', data: halves(9) } },
  'affine 8-bit act-order': affine(4, 12, 8, 4, 'bf16', { zero: true, index: true }),
  'affine per tensor': { ...affine(4, 12, 2, 12, 'fp32'), scales: { block: [4, 12], format: 'fp32', data: normals(1) } },
  'lut per tensor': lut(3, 10, 'tensor'),
  'lut per row': lut(3, 10, 'row'),
  'lut per column with scales': lut(3, 10, 'column', true),
  'lut in runs across rows': encodeTable4('nf4', matrix(normals(99), 9, 11), { blockSize: 32 }),
  'lut, scales quantized twice': encodeTable4('fp4', matrix(normals(300), 6, 50), { blockSize: 1, doubleQuant: true }),
  'affine with scales quantized twice': {
    ...affine(3, 10, 3, 4, 'fp32', { zero: true }),
    scales: { ...encodeTable4('nf4', matrix(normals(9), 1, 9), { blockSize: 1, doubleQuant: true }).scales!, block: [1, 4] },
  },
  'fp8 E4M3 without scales': { kind: 'minifloat', shape: [3, 5], format: 'fp8e4m3', codes: Uint8Array.from({ length: 15 }, (_, i) => i) },
  'fp6, rows that end inside a byte': { kind: 'minifloat', shape: [3, 5], format: 'fp6e3m2', codes: new Uint8Array(12).fill(201) },
  'fp8 E5M2 in tiles': {
    kind: 'minifloat',
    shape: [4, 6],
    format: 'fp8e5m2',
    codes: new Uint8Array(24).fill(60),
    scales: { block: [2, 4], format: 'bf16', data: halves(4) },
  },
  MXFP4: encodeMx('fp4e2m1', matrix(normals(150), 3, 50)),
  NVFP4: encodeNvfp4(matrix(normals(150), 3, 50)),
  'NVFP4 to multiply with': encodeNvfp4(matrix(normals(64), 2, 32), { scaleRule: 'torchao' }),
  'blocks Q4_0': encodeBlocks('Q4_0', matrix(normals(128), 2, 64)),
  'blocks Q8_0': encodeBlocks('Q8_0', matrix(normals(64), 2, 32)),
  sum: { kind: 'sum', shape: [3, 10], terms: [affine(3, 10, 4, 5, 'fp16'), dense(3, 10, 'fp16')] },
  parts: {
    kind: 'parts',
    shape: [3, 6],
    axis: 'in',
    parts: [
      { index: Uint32Array.of(0, 2, 3, 5), base: affine(3, 4, 4, 4, 'fp16') },
      { index: Uint32Array.of(4, 1), base: dense(3, 2) },
    ],
  },
  rescaled: { kind: 'rescaled', shape: [3, 10], inputScale: normals(10), base: affine(3, 10, 4, 5, 'fp16', { zero: true }) },
  nested: {
    kind: 'rescaled',
    shape: [3, 6],
    inputScale: normals(6),
    base: {
      kind: 'sum',
      shape: [3, 6],
      terms: [
        {
          kind: 'parts',
          shape: [3, 6],
          axis: 'out',
          parts: [
            { index: Uint32Array.of(2, 0), base: lut(2, 6, 'row') },
            { index: Uint32Array.of(1), base: dense(1, 6) },
          ],
        },
        affine(3, 6, 2, 3, 'bf16', { index: true }),
      ],
    },
  },
};

/** What lies in memory, without ndarray objects: tables as plain data. */
function bare(t: CompressedTensor): unknown {
  return JSON.parse(
    JSON.stringify(t, (_, v) => (ArrayBuffer.isView(v) ? { type: v.constructor.name, data: [...(v as unknown as number[])] } : v)),
    (k, v) => (k === 'tables' ? { data: v.data, shape: v.shape } : v),
  );
}

async function store(
  tensors: Record<string, [CompressedTensor, number[]?, InputQuant?]>,
): Promise<{ manifest: string; physical: SafetensorsFile; entries: [string, LmqEntry][] }> {
  const list: TensorToWrite[] = [];
  const entries: [string, LmqEntry][] = [];
  for (const [name, [t, shape, input]] of Object.entries(tensors)) {
    const { entry, tensors } = toLmqTensors(name, t, shape, input);
    entries.push([name, entry]);
    list.push(...tensors);
  }
  const sink = memorySink();
  await writeSafetensors(sink, list);
  return {
    manifest: lmqManifest(entries, { recipe: { bits: 4 } }),
    physical: await openSafetensors(source(sink.bytes(), 'model.safetensors')),
    entries,
  };
}

describe('the lmq format', () => {
  it.each(Object.entries(LAYOUTS))('round-trips %s bit for bit', async (_, t) => {
    const { manifest, physical } = await store({ w: [t] });
    const file = openLmq(manifest, physical);
    expect(bare(await file.read('w'))).toEqual(bare(t));
    expect(file.tensors.get('w')!.bytes).toBe([...physical.tensors.values()].reduce((n, p) => n + p.bytes, 0));
  });

  it('keeps many tensors, their shapes, names of layouts, and info', async () => {
    const all = Object.fromEntries(Object.entries(LAYOUTS).map(([k, t]) => [k, [t] as [CompressedTensor]]));
    const { manifest, physical } = await store({ ...all, 'model.norm.weight': [dense(1, 7), [7]], conv: [dense(6, 4), [2, 3, 4]] });
    const file = openLmq(manifest, physical);
    expect(file.format).toBe('lmq');
    expect(file.tensors.get('model.norm.weight')).toEqual({
      name: 'model.norm.weight',
      shape: [7],
      format: 'bf16',
      bytes: 14,
      file: 'model.safetensors',
    });
    expect(physical.tensors.get('model.norm.weight')!.shape).toEqual([7]);
    expect(await file.read('conv')).toMatchObject({ shape: [6, 4] });
    expect(file.tensors.get('affine 4-bit')!.format).toMatch(/^affine 4-bit g4/);
    expect(file.tensors.get('parts')!.format).toContain('4 x affine');
    expect(file.metadata.get('recipe')).toEqual({ bits: 4 });
    for (const [name, t] of Object.entries(LAYOUTS)) expect(bare(await file.read(name))).toEqual(bare(t));
  });

  it('stores strided tables in order', async () => {
    const t = lut(2, 4, 'row');
    const data = new Float32Array(32);
    for (let r = 0; r < 2; r++) for (let c = 0; c < 16; c++) data[c * 2 + r] = t.tables.data[r * 16 + c]!;
    const { manifest, physical } = await store({ w: [{ ...t, tables: ndarray(data, [2, 16], [1, 2]) }] });
    expect(bare(await openLmq(manifest, physical).read('w'))).toEqual(bare(t));
  });

  it('does not write what is not valid', async () => {
    const t = affine(3, 10, 4, 4, 'fp16');
    await expectFailure(() => toLmqTensors('w', { ...t, codes: new Uint8Array(3) }), 'argument/shape');
    await expectFailure(() => toLmqTensors('w', t, [30]), 'argument/shape', { tensor: 'w' });
    await expectFailure(() => toLmqTensors('__proto__', t), 'argument/value');
  });

  it.each<InputQuant>([
    { kind: 'int8', per: 'token', symmetric: true },
    { kind: 'int8', per: 'tensor', symmetric: false, static: { scale: Math.fround(0.03), zeroPoint: -7 } },
    { kind: 'llm-int8', threshold: 6 },
  ])('keeps how inputs are quantized: %o', async (input) => {
    const { manifest, physical } = await store({ w: [affine(3, 64, 8, 64, 'fp32'), [3, 64], input], v: [dense(2, 2)] });
    expect([...openLmq(manifest, physical).inputs!]).toEqual([['w', input]]);
    expect((await failure(() => store({ w: [dense(2, 2), [2, 2], input] }))).code).toBe('backend/unsupported');
  });

  it.each<[string, unknown]>([
    ['no object', 8],
    ['an unknown kind', { kind: 'fp8' }],
    ['a field too many', { kind: 'llm-int8', threshold: 6, x: 1 }],
    ['fields of another kind', { kind: 'int8', per: 'token', symmetric: true, threshold: 6 }],
    ['a threshold below 0', { kind: 'llm-int8', threshold: -6 }],
    ['no threshold', { kind: 'llm-int8' }],
    ['a static scale per token', { kind: 'int8', per: 'token', symmetric: true, static: { scale: 1, zeroPoint: 0 } }],
    ['a static scale of 0', { kind: 'int8', per: 'tensor', symmetric: true, static: { scale: 0, zeroPoint: 0 } }],
    ['a static scale without a zero point', { kind: 'int8', per: 'tensor', symmetric: true, static: { scale: 1 } }],
    ['a static scale with more', { kind: 'int8', per: 'tensor', symmetric: true, static: { scale: 1, zeroPoint: 0, x: 1 } }],
    ['nothing', null],
  ])('refuses input quantization that is %s', async (_, input) => {
    const { physical, entries } = await store({ w: [affine(3, 64, 8, 64, 'fp32')] });
    const manifest = lmqManifest([['w', { ...entries[0]![1], input: input as InputQuant }]]);
    await expectFailure(() => openLmq(manifest, physical), 'file/format', { tensor: 'w', file: 'lmq.json' });
  });

  it('refuses input quantization of a weight without integers', async () => {
    const { physical, entries } = await store({ w: [dense(2, 2)] });
    const manifest = lmqManifest([['w', { ...entries[0]![1], input: { kind: 'llm-int8', threshold: 6 } }]]);
    await expectFailure(() => openLmq(manifest, physical), 'file/format', { tensor: 'w' });
  });

  it('reads only what is in the manifest', async () => {
    const { manifest, physical } = await store({ w: [dense(2, 2)] });
    const file = openLmq(manifest, physical);
    await expectFailure(() => file.read('w.codes'), 'model/missing', { tensor: 'w.codes' });
    await expectFailure(() => file.read('constructor'), 'model/missing');
  });
});

describe('damaged lmq folders', () => {
  type Json = Record<string, unknown>;
  const layoutOf = (m: Json) => ((m.tensors as Json).w as Json).layout as Json;
  const t = LAYOUTS['affine 8-bit act-order']!;

  it.each<[string, (m: Json) => void]>([
    [
      'another version',
      (m) => {
        m.lmq = 2;
      },
    ],
    [
      'no version',
      (m) => {
        delete m.lmq;
      },
    ],
    [
      'an unknown field',
      (m) => {
        m.x = 1;
      },
    ],
    [
      'no tensors',
      (m) => {
        delete m.tensors;
      },
    ],
    [
      'an unknown kind',
      (m) => {
        layoutOf(m).kind = 'vector';
      },
    ],
    [
      'a kind from the prototype',
      (m) => {
        layoutOf(m).kind = 'toString';
      },
    ],
    [
      'an unknown field of a layout',
      (m) => {
        layoutOf(m).x = 1;
      },
    ],
    [
      '0 bits',
      (m) => {
        layoutOf(m).bits = 0;
      },
    ],
    [
      '9 bits',
      (m) => {
        layoutOf(m).bits = 9;
      },
    ],
    [
      'other bits',
      (m) => {
        layoutOf(m).bits = 4;
      },
    ],
    [
      'another group size',
      (m) => {
        layoutOf(m).groupSize = 6;
      },
    ],
    [
      'a scale block of 0',
      (m) => {
        (layoutOf(m).scales as Json).block = [0, 4];
      },
    ],
    [
      'other scale blocks',
      (m) => {
        (layoutOf(m).scales as Json).block = [1, 3];
      },
    ],
    [
      'another scale format',
      (m) => {
        (layoutOf(m).scales as Json).format = 'fp16';
      },
    ],
    [
      'an unknown scale format',
      (m) => {
        (layoutOf(m).scales as Json).format = 'fp8';
      },
    ],
    [
      'a dropped field',
      (m) => {
        delete layoutOf(m).zeroPoints;
      },
    ],
    [
      'a field that is not there',
      (m) => {
        layoutOf(m).zeroPoints = 1;
      },
    ],
    [
      'zero points of an unknown format',
      (m) => {
        layoutOf(m).zeroPoints = { format: 'fp8' };
      },
    ],
    [
      'another matrix',
      (m) => {
        layoutOf(m).shape = [12, 4];
      },
    ],
    [
      'a huge matrix',
      (m) => {
        layoutOf(m).shape = [2 ** 32, 2 ** 32];
      },
    ],
    [
      'another original shape',
      (m) => {
        ((m.tensors as Json).w as Json).shape = [48];
      },
    ],
    [
      'a shape of text',
      (m) => {
        ((m.tensors as Json).w as Json).shape = ['4', '12'];
      },
    ],
    [
      'a tensor without data',
      (m) => {
        (m.tensors as Json).v = (m.tensors as Json).w;
      },
    ],
    [
      'no entry for the data',
      (m) => {
        m.tensors = {};
      },
    ],
    [
      'endless nesting',
      (m) => {
        let layout: Json = { kind: 'dense', shape: [4, 12], format: 'fp32' };
        for (let i = 0; i < 20; i++) layout = { kind: 'rescaled', shape: [4, 12], base: layout };
        ((m.tensors as Json).w as Json).layout = layout;
      },
    ],
  ])('are refused: %s', async (what, change) => {
    const { manifest, physical } = await store({ w: [t] });
    const json = JSON.parse(manifest) as Json;
    change(json);
    const run = async () => openLmq(JSON.stringify(json), physical).read('w'); // the group size is seen when the data is there
    const e = await failure(run);
    expect(e.code).toBe('file/format');
    expect(e.facts.file, what).toMatch(/lmq\.json|model\.safetensors/);
  });

  const scalesOf = (m: Json) => layoutOf(m).scales as Json;
  const outerOf = (m: Json) => scalesOf(m).outer as Json;
  const globalOf = (m: Json) => scalesOf(m).global as Json;
  it.each<[string, string, (m: Json) => void]>([
    ['flat scales of affine codes', 'affine 4-bit', (m) => Object.assign(scalesOf(m), { block: { flat: 4 } })],
    ['a block that is a number', 'lut in runs across rows', (m) => Object.assign(scalesOf(m), { block: 32 })],
    ['a run of 0', 'lut in runs across rows', (m) => Object.assign(scalesOf(m), { block: { flat: 0 } })],
    ['another run', 'lut in runs across rows', (m) => Object.assign(scalesOf(m), { block: { flat: 33 } })],
    ['a run and more', 'lut in runs across rows', (m) => Object.assign(scalesOf(m), { block: { flat: 32, x: 1 } })],
    ['a table that is not there', 'lut in runs across rows', (m) => Object.assign(scalesOf(m), { format: 'table8' })],
    ['a dropped outer', 'lut, scales quantized twice', (m) => delete scalesOf(m).outer],
    ['another outer run', 'lut, scales quantized twice', (m) => Object.assign(outerOf(m), { block: { flat: 10 } })],
    ['an endless outer run', 'lut, scales quantized twice', (m) => Object.assign(outerOf(m), { block: { flat: 2 ** 60 } })],
    ['an outer format', 'lut, scales quantized twice', (m) => Object.assign(outerOf(m), { format: 'e8m0' })],
    ['an offset of text', 'lut, scales quantized twice', (m) => Object.assign(outerOf(m), { offset: '0' })],
    ['an offset that no float32 holds', 'lut, scales quantized twice', (m) => Object.assign(outerOf(m), { offset: 1e300 })],
    ['an outer that is a list', 'lut, scales quantized twice', (m) => Object.assign(scalesOf(m), { outer: [] })],
    ['a global scale of 0', 'NVFP4', (m) => Object.assign(globalOf(m), { value: 0 })],
    ['a global scale of null', 'NVFP4', (m) => Object.assign(globalOf(m), { value: null })],
    ['an unknown operation', 'NVFP4', (m) => Object.assign(globalOf(m), { op: 'toString' })],
    ['a global scale for powers of two', 'MXFP4', (m) => Object.assign(scalesOf(m), { global: { op: 'divide', value: 1 } })],
    ['another element format', 'NVFP4', (m) => Object.assign(layoutOf(m), { format: 'fp6e2m3' })],
    ['another format of the same width', 'fp8 E4M3 without scales', (m) => Object.assign(layoutOf(m), { format: 'fp8e5m2' })],
    ['an element format from the prototype', 'NVFP4', (m) => Object.assign(layoutOf(m), { format: 'valueOf' })],
    ['an unknown field of scales', 'MXFP4', (m) => Object.assign(scalesOf(m), { x: 1 })],
  ])('are refused: %s', async (what, layout, change) => {
    const { manifest, physical } = await store({ w: [LAYOUTS[layout]!] });
    const json = JSON.parse(manifest) as Json;
    change(json);
    const e = await failure(async () => openLmq(JSON.stringify(json), physical).read('w'));
    expect(e.code, what).toBe('file/format');
  });

  it('are refused: one part in two tensors', async () => {
    const { physical } = await store({ w: [dense(2, 2)] });
    const entry: LmqEntry = { shape: [2, 2], layout: { kind: 'dense', shape: [2, 2], format: 'bf16' } };
    const twice = lmqManifest([['w', entry]]).replace('"w":', `"w": ${JSON.stringify(entry)}, "w":`);
    expect((await failure(() => openLmq(twice, physical))).code).toBe('file/format');
    await expectFailure(
      () =>
        lmqManifest([
          ['w', entry],
          ['w', entry],
        ]),
      'argument/value',
      { tensor: 'w' },
    );
    // "a.codes" as a tensor of its own, and as a field of "a"
    const a = toLmqTensors('a', affine(2, 2, 8, 2, 'fp32'));
    const b = toLmqTensors('a.codes', dense(2, 2));
    await expectFailure(() => writeSafetensors(memorySink(), [...a.tensors, ...b.tensors]), 'argument/value', { tensor: 'a.codes' });
  });

  it('are refused: damaged data', async () => {
    const { manifest, physical } = await store({ w: [t] });
    const lying = (field: string, bytes: Uint8Array): SafetensorsFile => ({
      ...physical,
      readBytes: async (name) => (name === field ? bytes : physical.readBytes(name)),
    });
    await expectFailure(() => openLmq(manifest, lying('w.group_index', new Uint8Array(48).fill(0x7f))).read('w'), 'file/format', {
      tensor: 'w',
      file: 'model.safetensors',
    });
    await expectFailure(() => openLmq(manifest, lying('w.scales', new Uint8Array(24).fill(0xff))).read('w'), 'file/format', {
      tensor: 'w',
    });
  });

  it('fail with nothing but LmqError under random edits of the manifest (2000 seeded cases)', async () => {
    const { manifest, physical } = await store({
      w: [LAYOUTS.nested!],
      v: [LAYOUTS['lut per column with scales']!],
      q: [LAYOUTS['lut, scales quantized twice']!],
      f: [LAYOUTS.NVFP4!],
      n: [dense(1, 4), [4]],
      i: [affine(2, 32, 8, 32, 'fp32'), [2, 32], { kind: 'int8', per: 'tensor', symmetric: false, static: { scale: 0.5, zeroPoint: 3 } }],
    });
    const mutate = createRng(5);
    for (let i = 0; i < 2000; i++) {
      const at = mutate.below(manifest.length);
      const text =
        manifest.slice(0, at) + (mutate.below(2) ? String.fromCharCode(32 + mutate.below(95)) : '') + manifest.slice(at + mutate.below(3));
      try {
        const file = openLmq(text, physical);
        for (const name of file.tensors.keys()) await file.read(name);
      } catch (e) {
        expect((e as Error).name, text.slice(Math.max(0, at - 20), at + 20)).toBe('LmqError');
      }
    }
  });
});
