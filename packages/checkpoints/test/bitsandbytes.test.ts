import { decode, encodeFloats, encodeTable4, packRows, packStream, scaleValues, validate } from '@lmq/formats';
import { type Affine, type CompressedTensor, createRng, type FloatFormat, type Lut, matrix } from '@lmq/tensor';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { maximumOfScale, scalesOfMaxima } from '../src/_bitsandbytes.js';
import { bitsandbytesConfig, toBitsandbytesTensors } from '../src/bitsandbytes-write.js';
import { openQuantized } from '../src/open-quantized.js';
import { expectFailure, utf8 } from './_files.js';
import { type BnbCase, base64, bnbCases, fnv } from './_golden-linears.js';
import { type Stored, safetensorsOf, storedOf, under } from './_quantized.js';

const L = 'model.layers.0.mlp.up_proj';
const W = `${L}.weight`;
const FORMAT: Record<BnbCase['dtype'], FloatFormat> = { float32: 'fp32', float16: 'fp16', bfloat16: 'bf16' };
const STATE = 'weight.quant_state.bitsandbytes__nf4';

const configOf = (c: Pick<BnbCase, 'type' | 'double'>) => bitsandbytesConfig({ type: c.type, doubleQuant: c.double });
const open = async (tensors: Record<string, Stored>, config: unknown) =>
  openQuantized(await safetensorsOf(tensors), { quantization_config: config });
const titled = bnbCases.map((c) => ({
  ...c,
  title: `${c.type} [${c.out}, ${c.in}] of ${c.block}${c.double ? ' double' : ''} ${c.dtype}, in ${c.tensors.weight!.dtype}`,
}));
const json = (t: Stored) => JSON.parse(new TextDecoder().decode(t.data));

describe('golden checkpoints', () => {
  it.each(titled)('$title: the weights of bitsandbytes, and its bytes again', async (c) => {
    const model = await open({ ...under(L, c.tensors), 'model.norm.weight': f32(1, 2) }, configOf(c));
    expect(model.format).toBe('bitsandbytes');
    expect([...model.tensors.keys()].sort()).toEqual([W, 'model.norm.weight']);
    const info = model.tensors.get(W)!;
    expect(info.shape).toEqual([c.out, c.in]);
    expect(info.bytes).toBe(Object.values(c.tensors).reduce((n, t) => n + t.data.length, 0));
    const t = await model.read(W);
    const decoded = decode(t).data;
    if (c.type === 'int8') {
      expect(info.format).toBe('affine 8-bit per row');
      const want = new Float32Array(base64(c.weight).buffer);
      // operations in another order
      for (const [i, w] of want.entries()) expect(Math.abs(w - decoded[i]!)).toBeLessThanOrEqual(Math.abs(w) * 2 ** -22);
    } else {
      expect(info.format).toBe(`lut 4-bit ${c.type} flat ${c.block}${c.double ? ' table8' : ''}`);
      expect(fnv(encodeFloats(FORMAT[c.dtype], decoded))).toBe(c.weight);
    }
    const again = await storedOf(toBitsandbytesTensors(W, t, { dtype: FORMAT[c.dtype] }));
    expect(Object.keys(again)).toEqual(Object.keys(under(L, c.tensors)));
    for (const [name, stored] of Object.entries(under(L, c.tensors))) {
      if (name.includes('quant_state')) expect(json(again[name]!)).toEqual(json(stored));
      else expect(again[name]!.data).toEqual(stored.data);
      if (name !== W)
        expect(again[name]).toMatchObject(name.includes('quant_state') ? { dtype: 'U8' } : { dtype: stored.dtype, shape: stored.shape });
    }
    await model.close();
  });

  it('covers both tables and 8 bits, both kinds of scales, codes in other dtypes', () => {
    const seen = new Set(
      bnbCases.flatMap((c) => [c.type, `${c.type} ${c.double}`, c.tensors.weight!.dtype, `${(c.out * c.in) % c.block > 0}`]),
    );
    for (const want of ['nf4 true', 'nf4 false', 'fp4 true', 'fp4 false', 'int8', 'BF16', 'F32', 'true']) expect(seen).toContain(want);
  });
});

function f32(...values: number[]): Stored {
  return { dtype: 'F32', shape: [values.length], data: new Uint8Array(Float32Array.from(values).buffer) };
}

/** A golden case with some parts replaced; `undefined` takes one away. */
function but(c: { tensors: Record<string, Stored> }, changes: Record<string, Stored | undefined>): Record<string, Stored> {
  return Object.fromEntries(
    Object.entries({ ...under(L, c.tensors), ...Object.fromEntries(Object.entries(changes).map(([k, v]) => [`${L}.${k}`, v])) }).filter(
      (e): e is [string, Stored] => e[1] !== undefined,
    ),
  );
}

const plain4 = bnbCases.find((c) => c.type === 'nf4' && !c.double)!;
const double4 = bnbCases.find((c) => c.type === 'nf4' && c.double)!;
const int8 = bnbCases.find((c) => c.type === 'int8')!;
const state = (c: BnbCase & { tensors: Record<string, Stored> }, changes: Record<string, unknown>): Stored => {
  const data = utf8(JSON.stringify({ ...json(c.tensors[STATE]!), ...changes }));
  return { dtype: 'U8', shape: [data.length], data };
};

it('inputs of 8-bit linears are those of LLM.int8()', async () => {
  const inputsOf = async (c: typeof int8, own = {}) => (await open(but(c, {}), { ...configOf(c), ...own })).inputs;
  expect(await inputsOf(int8)).toEqual(new Map([[W, { kind: 'llm-int8', threshold: 6 }]]));
  expect(await inputsOf(int8, { llm_int8_threshold: 3.5 })).toEqual(new Map([[W, { kind: 'llm-int8', threshold: 3.5 }]]));
  expect(await inputsOf(plain4, { llm_int8_threshold: 3.5 })).toBe(undefined);
  for (const llm_int8_threshold of [-1, '6', Number.NaN])
    await expectFailure(() => inputsOf(int8, { llm_int8_threshold }), 'model/config', { file: 'config.json' });
});

describe('parts', () => {
  it.each(['weight', 'weight.absmax', 'weight.quant_map', 'weight.nested_absmax', 'weight.nested_quant_map'])(
    '%s missing',
    async (part) => {
      await expectFailure(() => open(but(double4, { [part]: undefined }), configOf(double4)), 'file/format', {
        op: 'openBitsandbytes',
        file: 'model.safetensors',
        tensor: W,
        expected: `${L}.${part}`,
      });
    },
  );

  it('quant_state missing', async () => {
    const e = await expectFailure(() => open(but(double4, { [STATE]: undefined }), configOf(double4)), 'file/format');
    expect(e.facts.expected).toBe(`${L}.${STATE}`);
  });

  it('left over, or of two kinds', async () => {
    for (const part of ['weight.scale', 'CB'])
      await expectFailure(() => open(but(plain4, { [part]: f32(1) }), configOf(plain4)), 'file/format', { tensor: `${L}.${part}` });
    await expectFailure(() => open({ ...but(plain4, {}), 'x.weight.absmax': f32(1) }, configOf(plain4)), 'file/format', {
      tensor: 'x.weight.absmax',
    });
    await expectFailure(() => open(but(int8, { 'weight.absmax': f32(1) }), configOf(int8)), 'file/format', { found: 'weight.absmax' });
    const fp4 = { 'weight.quant_state.bitsandbytes__fp4': plain4.tensors[STATE]! };
    await expectFailure(() => open(but(plain4, fp4), configOf(plain4)), 'file/format', { tensor: W });
  });

  it('of the wrong size or dtype', async () => {
    const absmax = plain4.tensors['weight.absmax']!;
    const wrong: [BnbCase & { tensors: Record<string, Stored> }, Record<string, Stored>, string][] = [
      [plain4, { 'weight.absmax': f32(1) }, '[5]'],
      [plain4, { 'weight.absmax': { ...absmax, dtype: 'I32' } }, 'F32 with 1 axis, not empty'],
      [plain4, { 'weight.quant_map': f32(1, 2) }, '[16]'],
      [plain4, { weight: { dtype: 'U8', shape: [149, 1], data: new Uint8Array(149) } }, '150 bytes for [6, 50]'],
      [double4, { 'weight.absmax': f32(...new Array(265).fill(1)) }, 'U8 with 1 axis, not empty'],
      [double4, { 'weight.nested_absmax': f32(1) }, '[2]'],
      [double4, { 'weight.nested_quant_map': f32(1) }, '[256]'],
      [int8, { SCB: f32(1) }, '[24]'],
      [int8, { weight: { dtype: 'U8', shape: [24, 40], data: new Uint8Array(960) } }, 'I8 with 2 axes, not empty'],
    ];
    for (const [c, changes, expected] of wrong)
      await expectFailure(() => open(but(c, changes), configOf(c)), 'file/format', { op: 'openBitsandbytes', tensor: W, expected });
  });

  it('in the order of a GPU', async () => {
    const model = await open(but(int8, { weight_format: { dtype: 'U8', shape: [], data: Uint8Array.of(2) } }), configOf(int8));
    await expectFailure(() => model.read(W), 'model/unsupported', { op: 'read', tensor: W, found: 2 });
    expect((await open(but(int8, { weight_format: undefined }), configOf(int8))).tensors.get(W)!.shape).toEqual([24, 40]);
  });
});

describe('quant_state', () => {
  it.each<[string, Record<string, unknown>, string]>([
    ['another type', { quant_type: 'fp4' }, 'nf4'],
    ['no shape', { shape: null }, 'two numbers'],
    ['three axes', { shape: [2, 3, 4] }, 'two numbers'],
    ['a shape of text', { shape: ['6', 50] }, 'a positive integer'],
    ['another shape', { shape: [6, 51] }, '153 bytes for [6, 51]'],
    ['a huge shape', { shape: [2 ** 31, 2 ** 31] }, `${2 ** 61} bytes for [${2 ** 31}, ${2 ** 31}]`],
    ['no block size', { blocksize: 0 }, 'a positive integer'],
    ['another block size', { blocksize: 32 }, '[10]'],
    ['a dtype', { dtype: 'float64' }, 'float32, float16 or bfloat16'],
    ['an unknown field', { transposed: true }, 'quant_type, blocksize, dtype, shape, nested_blocksize, nested_dtype, nested_offset'],
    ['scales of scales that are not there', { nested_blocksize: 256 }, `${L}.weight.nested_absmax`],
  ])('with %s', async (_, changes, expected) => {
    await expectFailure(() => open(but(plain4, { [STATE]: state(plain4, changes) }), configOf(plain4)), 'file/format', {
      tensor: W,
      expected,
    });
  });

  it('with damaged scales of scales', async () => {
    for (const changes of [{ nested_dtype: 'float16' }, { nested_offset: '1' }, { nested_offset: 1e300 }, { nested_blocksize: null }])
      await expectFailure(() => open(but(double4, { [STATE]: state(double4, changes) }), configOf(double4)), 'file/format', { tensor: W });
  });

  it('that is no JSON, repeats a key, reaches a prototype, or is large', async () => {
    const texts = ['', '[]', '{"quant_type": "nf4"', '{"shape": [6, 50], "shape": [6, 50]}', '{"__proto__": {}}', '{} {}'];
    for (const text of texts) {
      const data = utf8(text || ' ');
      await expectFailure(
        () => open(but(plain4, { [STATE]: { dtype: 'U8', shape: [data.length], data } }), configOf(plain4)),
        'file/format',
        { file: 'model.safetensors', tensor: W },
      );
    }
    const data = new Uint8Array(65537).fill(32);
    await expectFailure(() => open(but(plain4, { [STATE]: { dtype: 'U8', shape: [65537], data } }), configOf(plain4)), 'file/limit');
  });

  it('of a table that bitsandbytes does not store', async () => {
    const tensors = but(plain4, { [STATE]: undefined, 'weight.quant_state.bitsandbytes__af4': plain4.tensors[STATE]! });
    await expectFailure(() => open(tensors, configOf(plain4)), 'model/unsupported', { expected: 'nf4, fp4', found: 'af4' });
  });
});

describe('tables', () => {
  const table = (change: (values: Float32Array) => void): Stored => {
    const values = new Float32Array(plain4.tensors['weight.quant_map']!.data.slice().buffer);
    change(values);
    return f32(...values);
  };

  it('are kept to the bit where they differ by rounding', async () => {
    const quant_map = table((values) => {
      values[3]! += 2 ** -25;
    });
    const t = (await (await open(but(plain4, { 'weight.quant_map': quant_map }), configOf(plain4))).read(W)) as Lut;
    expect(t.tables.data).toEqual(new Float32Array(quant_map.data.buffer));
  });

  it('are refused where they are others', async () => {
    for (const x of [-0.39, Number.NaN]) {
      const quant_map = table((values) => {
        values[3] = x;
      });
      const model = await open(but(plain4, { 'weight.quant_map': quant_map }), configOf(plain4));
      await expectFailure(() => model.read(W), 'model/unsupported', { op: 'read', tensor: W });
    }
  });

  it('of the scales count', async () => {
    const nested = new Float32Array(double4.tensors['weight.nested_quant_map']!.data.slice().buffer).map((x) => x / 2);
    const one = (await (await open(but(double4, {}), configOf(double4))).read(W)) as Lut;
    const two = (await (await open(but(double4, { 'weight.nested_quant_map': f32(...nested) }), configOf(double4))).read(W)) as Lut;
    expect(scaleValues(two.scales!)).not.toEqual(scaleValues(one.scales!));
  });

  it('with scales that are not finite are damaged', async () => {
    const model = await open(but(plain4, { 'weight.absmax': f32(1, 2, Number.NaN, 4, 5) }), configOf(plain4));
    await expectFailure(() => model.read(W), 'file/format', { tensor: W });
  });
});

describe('configuration', () => {
  it('must say how many bits, and those of the tensors', async () => {
    await expectFailure(() => open(but(plain4, {}), { quant_method: 'bitsandbytes' }), 'model/config', {
      found: 'neither',
      file: 'config.json',
    });
    await expectFailure(
      () => open(but(plain4, {}), { quant_method: 'bitsandbytes', load_in_4bit: true, load_in_8bit: true }),
      'model/config',
      {
        found: 'both',
      },
    );
    await expectFailure(() => open(but(plain4, {}), configOf(int8)), 'model/config', {
      expected: 'load_in_8bit',
      found: '4 bits',
      tensor: W,
    });
    await expectFailure(() => open(but(int8, {}), configOf(plain4)), 'model/config', { found: '8 bits' });
    await expectFailure(() => open({ 'a.weight': f32(1) }, configOf(plain4)), 'model/config');
    await expectFailure(() => open(but(int8, {}), { ...configOf(int8), llm_int8_has_fp16_weight: true }), 'model/unsupported');
  });

  it('of older files, which do not name the method, is known; without any the tensors are not taken for weights', async () => {
    expect((await open(but(plain4, {}), { load_in_4bit: true })).format).toBe('bitsandbytes');
    expect((await open(but(plain4, {}), { quant_method: 'bitsandbytes', _load_in_4bit: true, _load_in_8bit: false })).format).toBe(
      'bitsandbytes',
    );
    for (const c of [plain4, int8]) await expectFailure(async () => openQuantized(await safetensorsOf(but(c, {})), {}), 'model/config');
  });

  it('is what Hugging Face writes', () => {
    expect(bitsandbytesConfig({ type: 'nf4', doubleQuant: true, skipModules: ['lm_head'] })).toMatchObject({
      quant_method: 'bitsandbytes',
      load_in_4bit: true,
      load_in_8bit: false,
      bnb_4bit_quant_type: 'nf4',
      bnb_4bit_use_double_quant: true,
      bnb_4bit_compute_dtype: 'bfloat16',
      llm_int8_skip_modules: ['lm_head'],
    });
    expect(bitsandbytesConfig({ type: 'int8' })).toMatchObject({ load_in_4bit: false, load_in_8bit: true, llm_int8_skip_modules: null });
    expect(() => bitsandbytesConfig({ type: 'af4' as 'nf4' })).toThrow();
  });
});

const random = (rows: number, cols: number, seed = 1) => {
  const rng = createRng(seed);
  return matrix(
    Float32Array.from({ length: rows * cols }, () => rng.normal()),
    rows,
    cols,
  );
};

describe('writing', () => {
  const roundTrip = async (t: CompressedTensor, type: BnbCase['type'] = 'nf4') => {
    const tensors = await storedOf(toBitsandbytesTensors(W, t, { dtype: 'bf16' }));
    return (await open(tensors, bitsandbytesConfig({ type }))).read(W);
  };

  it('what was encoded is read again, whatever the shape and the block', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('nf4' as const, 'fp4' as const),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 70 }),
        fc.constantFrom(32, 64, 128, 4096),
        fc.boolean(),
        async (type, rows, cols, blockSize, doubleQuant) => {
          const t = encodeTable4(type, random(rows, cols, rows + cols), { blockSize, doubleQuant });
          expect(await roundTrip(t, type)).toEqual(t);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('scales of groups and of other formats become float32 of runs', async () => {
    const t = encodeTable4('nf4', random(4, 64), { blockSize: 32 });
    const grid: Lut = { ...t, scales: { block: [1, 32], format: 'bf16', data: new Uint16Array(8).fill(0x3f81) } };
    const read = (await roundTrip(grid)) as Lut;
    expect(read.scales).toEqual({ block: { flat: 32 }, format: 'fp32', data: new Float32Array(8).fill(1.0078125) });
    expect(decode(read).data).toEqual(decode(grid).data);
  });

  /** A float32 that no float32 divided by 127 rounds to: just above 128 / 127, quotients lie further apart than float32 numbers. */
  const NO_QUOTIENT = 1.0078811645507812;
  const rows8 = (facts: Partial<Affine> = {}, scales: Partial<Affine['scales']> = {}): Affine => ({
    kind: 'affine',
    shape: [3, 10],
    bits: 8,
    groupSize: 10,
    codes: Uint8Array.from({ length: 30 }, (_, i) => (i * 37) & 255),
    ...facts,
    scales: { block: [1, 10], format: 'fp16', data: Uint16Array.of(0x2001, 0x1fff, 0), ...scales },
  });

  it('8-bit rows keep their values', async () => {
    const t = rows8();
    expect(decode(await roundTrip(t, 'int8')).data).toEqual(decode(t).data);
    const same = rows8({ zeroPoints: new Uint8Array(3).fill(128) });
    expect(decode(await roundTrip(same, 'int8')).data).toEqual(decode(t).data);
    const tensor = rows8({}, { block: [3, 10], data: Uint16Array.of(0x2001) });
    expect(decode(await roundTrip(tensor, 'int8')).data).toEqual(decode(tensor).data);
  });

  it('every maximum in 16 bits is found again from its scale', () => {
    for (let bits = 1; bits < 0x7f80; bits++) {
      const [maximum] = new Float32Array(Uint32Array.of(bits << 16).buffer); // bf16
      if (maximum! < 1e-35) continue; // the quotient has fewer bits
      expect(maximumOfScale(scalesOfMaxima(Float32Array.of(maximum!))[0]!)).toBe(maximum);
    }
  });

  it.each<[string, CompressedTensor]>([
    ['lut of nf4 or fp4, or affine', { kind: 'dense', shape: [1, 1], format: 'fp32', data: Float32Array.of(1) }],
    ['nf4 or fp4 for the whole tensor', encodeTable4('af4', random(2, 32))],
    ['a scale per run of weights', { ...encodeTable4('nf4', random(2, 32)), scales: undefined } as Lut],
    ['32, 64, 128, 256, 512, 1024, 2048, 4096', encodeTable4('nf4', random(4, 64), { blockSize: 48 })],
    ['32, 64, 128, 256, 512, 1024, 2048, 4096', encodeTable4('nf4', random(2, 4096), { blockSize: 8192 })],
    ['8 bits', rows8({ bits: 4, codes: packRows(new Uint8Array(30), 4, 3, 10) })],
    ['a scale per row', rows8({ groupSize: 5 }, { block: [1, 5], data: new Uint16Array(6) })],
    ['symmetric codes', rows8({ zeroPoints: packStream(Uint8Array.of(128, 127, 128), 8) })],
    ['scales in fp16 or bf16', rows8({}, { format: 'fp32', data: Float32Array.of(1, NO_QUOTIENT, 3) })],
  ])('refused: needs %s', async (expected, t) => {
    validate(t);
    await expectFailure(() => toBitsandbytesTensors(W, t, { dtype: 'bf16' }), 'export/unsupported', {
      op: 'toBitsandbytesTensors',
      tensor: W,
      expected,
    });
  });

  it('names and options', async () => {
    const t = encodeTable4('nf4', random(2, 32));
    await expectFailure(() => toBitsandbytesTensors('a.bias', t, { dtype: 'bf16' }), 'argument/value');
    await expectFailure(() => toBitsandbytesTensors(W, t, { dtype: 'fp8' as 'fp32' }), 'argument/option');
  });
});
