import { BLOCK_TYPES, countNonFinite, decode, isFloatZeros, validate, zeroNonFinite } from '@lmq/formats';
import { type CompressedTensor, createRng, type FloatData, type FloatFormat, type MinifloatFormat, type Scales } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import { KINDS, randomTensor } from './_cases.js';

type StoredFormat = FloatFormat | MinifloatFormat | 'e8m0';
type Stored = [StoredFormat, FloatData | Uint8Array];

function floatsOfScales({ format, data, table, outer }: Scales): Stored[] {
  const places: Stored[] = format === 'table8' ? [['fp32', table!]] : [[format, data]];
  return outer ? [...places, [outer.scales.format, outer.scales.data]] : places;
}

/** The floats that a tensor stores, all levels of nesting. */
function floatsOf(t: CompressedTensor): Stored[] {
  switch (t.kind) {
    case 'dense':
    case 'csr':
      return [[t.format, t.data]];
    case 'minifloat':
      return [[t.format, t.codes], ...(t.scales ? floatsOfScales(t.scales) : [])];
    case 'affine': {
      const { scales, zeroPoints: zeros } = t;
      return [...floatsOfScales(scales), ...(isFloatZeros(zeros) ? [[zeros.format, zeros.data] as Stored] : [])];
    }
    case 'lut':
      return [['fp32', t.tables.data.subarray(t.tables.offset)], ...(t.scales ? floatsOfScales(t.scales) : [])];
    case 'blocks':
      return [];
    case 'sum':
      return t.terms.flatMap(floatsOf);
    case 'parts':
      return t.parts.flatMap((p) => floatsOf(p.base));
    case 'rescaled':
      return [['fp32', t.inputScale], ...floatsOf(t.base)];
  }
}

/** NaN, both infinities, and a NaN whose payload is in the lowest bit: those that a format has. */
const POISON: Record<StoredFormat, number[]> = {
  fp32: [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  fp16: [0x7e00, 0x7c00, 0xfc00, 0x7c01],
  bf16: [0x7fc0, 0x7f80, 0xff80, 0x7f81],
  fp8e4m3: [0x7f, 0xff],
  fp8e5m2: [0x7c, 0xfc, 0x7d, 0xff],
  e8m0: [0xff],
  fp6e2m3: [],
  fp6e3m2: [],
  fp4e2m1: [],
};

describe('NaN and infinity in stored floats', () => {
  it.each(KINDS)('%s: counted, and replaced by zeros where they are', (kind) => {
    const rng = createRng(KINDS.indexOf(kind) + 1);
    for (let n = 0; n < 60; n++) {
      const t = randomTensor(rng, kind, 1 + rng.below(6), kind === 'blocks' ? 256 : 1 + rng.below(40));
      expect(countNonFinite(t)).toBe(0);
      const clean = decode(t).data;
      expect(decode(zeroNonFinite(t)).data).toEqual(clean);

      const places = floatsOf(t).filter(([format]) => POISON[format].length > 0);
      if (places.length === 0) continue;
      const [format, data] = places[rng.below(places.length)]!;
      const at = rng.below(data.length);
      data[at] = POISON[format][rng.below(POISON[format].length)]!;
      expect(countNonFinite(t)).toBe(1);
      const repaired = zeroNonFinite(t);
      expect(countNonFinite(repaired)).toBe(0);
      expect(countNonFinite(t)).toBe(1); // the argument is left as it is
      validate(repaired);
      const { data: values } = decode(repaired);
      expect(values.every(Number.isFinite)).toBe(true);
      if (kind !== 'dense') continue;
      clean[at] = 0;
      expect(values).toEqual(clean); // and nothing else has changed
    }
  });

  it('makes whole GGUF blocks zero', () => {
    const rng = createRng(9);
    const seen = new Set<string>();
    for (let n = 0; n < 600; n++) {
      const t = randomTensor(rng, 'blocks', 3, 256);
      if (t.kind !== 'blocks') throw new Error('blocks expected');
      const clean = decode(t).data;
      const per = t.data.length / 3;
      const { halves, hasBadScale, blockSize: size } = BLOCK_TYPES[t.type];
      if (halves.length > 0)
        t.data.set([0x01, 0xfc], per + halves[0]!); // the first scale of row 1
      else if (hasBadScale) t.data.fill(255, per, per + BLOCK_TYPES[t.type].blockBytes);
      else continue; // NVFP4 has no scale that is not finite
      expect(countNonFinite(t)).toBe(1);
      const { data } = decode(zeroNonFinite(t));
      expect(data.subarray(256, 256 + size).every((v) => v === 0)).toBe(true);
      expect(data.subarray(0, 256)).toEqual(clean.subarray(0, 256));
      expect(data.subarray(256 + size)).toEqual(clean.subarray(256 + size));
      seen.add(t.type);
    }
    expect(seen.size).toBe(Object.keys(BLOCK_TYPES).length - 1);
  });
});
