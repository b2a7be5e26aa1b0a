import { readFileSync } from 'node:fs';
import { decode } from '@lmq/formats';
import { findParams, PRESETS, type PresetName, rtn } from '@lmq/quant-core';
import { createRng, isLmqError, type Matrix, matrix } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';

const f = Math.fround;
const row = (...v: number[]) => matrix(Float32Array.from(v), 1, v.length);
const names = Object.keys(PRESETS) as PresetName[];
/** Scale and zero point of one group, with unrounded scales. */
function params(values: number[], preset: PresetName, symmetric: boolean, bits = 4, referenceCompat = false): [number, number] {
  const p = findParams(row(...values), { bits, preset, symmetric, referenceCompat, scaleFormat: 'fp32' });
  return [p.scales[0]!, p.zeroPoints[0]!];
}

describe('presets', () => {
  // Worked by hand from the conventions, for the group -3, 1.5, 2.
  const group = [-3, 1.5, 2];
  const symmetric: [PresetName, number][] = [
    ['gptq', f(6 / 15)],
    ['awq', f(3 / 7)],
    ['smoothquant', f(3 / 7)],
    ['compressed-tensors', f(6 / 15)],
    ['torchao', f(6 / 15)],
    ['torchao-no-clipping', f(3 / 8)], // max(3 / 8, 2 / 7)
    ['auto-round', f(3 / 8)],
    ['gguf', f(3 / 8)],
    ['onnxruntime', f(3 / 8)],
  ];
  for (const [name, scale] of symmetric) {
    it(`${name} symmetric`, () => expect(params(group, name, true)).toEqual([scale, 8]));
  }
  const asymmetric: [PresetName, number, number][] = [
    ['gptq', f(5 / 15), 9],
    ['awq', f(5 / 15), 9],
    ['compressed-tensors', f(5 / 15), 9],
    ['torchao', f(5 / 15), 9],
    ['auto-round', f(5 / 15), 9],
    ['onnxruntime', f(5 / 15), 9],
  ];
  for (const [name, scale, zero] of asymmetric) {
    it(`${name} asymmetric`, () => expect(params(group, name, false)).toEqual([scale, zero]));
  }

  it('has a known answer for every variant that exists', () => {
    expect(names.filter((n) => PRESETS[n].symmetric).sort()).toEqual(symmetric.map(([n]) => n).sort());
    expect(names.filter((n) => PRESETS[n].asymmetric).sort()).toEqual(asymmetric.map(([n]) => n).sort());
  });

  it('mirrors the scale where the positive side is larger', () => {
    expect(params([-2, 3], 'auto-round', true)).toEqual([f(-3 / 8), 8]);
    expect(params([-2, 3], 'gguf', true)).toEqual([f(-3 / 8), 8]);
    expect(params([-2, 3], 'onnxruntime', true)).toEqual([f(-3 / 8), 8]);
    expect(params([-2, 3], 'torchao-no-clipping', true)).toEqual([f(3 / 7), 8]);
  });

  it('settles ties as each source does', () => {
    expect(params([2, -2], 'gguf', true)[0]).toBe(-0.25); // the first of largest magnitude
    expect(params([-2, 2], 'gguf', true)[0]).toBe(0.25);
    expect(params([-2, 2], 'onnxruntime', true)[0]).toBe(0.25); // the least value
    expect(params([-2, 2], 'auto-round', true)[0]).toBe(-0.25); // the greatest value
  });

  it('keeps zero off the grid only with awq', () => {
    for (const name of names) {
      if (!PRESETS[name].asymmetric) continue;
      const got = params([5, 6.5], name, false);
      expect(got, name).toEqual(name === 'awq' ? [f(1.5 / 15), 0] : [f(6.5 / 15), 0]);
    }
  });

  it('reproduces the half-wide scale of gptq for groups without negative values only when asked', () => {
    expect(params([0.5, 3], 'gptq', true)).toEqual([f(6 / 15), 8]);
    expect(params([0.5, 3], 'gptq', true, 4, true)).toEqual([f(3 / 15), 8]);
    expect(params([0, 3], 'gptq', true, 4, true)).toEqual([f(3 / 15), 8]);
    expect(params([-0.5, 3], 'gptq', true, 4, true)).toEqual([f(6 / 15), 8]);
  });

  it('generalizes over bits', () => {
    expect(params(group, 'gptq', true, 3)).toEqual([f(6 / 7), 4]);
    expect(params(group, 'gptq', false, 2)).toEqual([f(5 / 3), 2]); // rint(1.8)
    expect(params(group, 'awq', true, 8)).toEqual([f(3 / 127), 128]);
    expect(params(group, 'gguf', true, 8)).toEqual([f(3 / 127), 128]); // Q8_0
    expect(params(group, 'auto-round', true, 2)).toEqual([f(3 / 2), 2]);
  });

  it('has finite, usable parameters for a group of zeros, and decodes it to zeros', () => {
    for (const preset of names) {
      for (const symmetric of [true, false]) {
        if (!(symmetric ? PRESETS[preset].symmetric : PRESETS[preset].asymmetric)) continue;
        const { weight } = rtn(row(0, 0, 0, 0), { bits: 4, preset, symmetric });
        expect([...decode(weight).data], `${preset} ${symmetric}`).toEqual([0, 0, 0, 0]);
        const [scale] = params([0, 0], preset, symmetric);
        expect(Number.isFinite(scale) && scale !== 0).toBe(true);
      }
    }
    expect(params([0, 0], 'gptq', true)).toEqual([f(2 / 15), 8]); // as if the range were -1 … 1
    expect(params([0, 0], 'gptq', false)).toEqual([f(2 / 15), 7]); // 1 / f(2 / 15) is just below 7.5
    expect(params([0, 0], 'awq', true)[0]).toBe(f(1e-5 / 7));
    expect(params([0, 0], 'auto-round', true)[0]).toBe(f(1e-5));
  });

  it('refuses a variant that a convention lacks, and unknown names', () => {
    const code = (preset: string, symmetric: boolean, bits = 4) => {
      try {
        findParams(row(1, 2), { bits, preset: preset as PresetName, symmetric });
        return 'accepted';
      } catch (e) {
        return isLmqError(e) ? e.code : e;
      }
    };
    for (const name of ['smoothquant', 'torchao-no-clipping', 'gguf']) expect(code(name, false)).toBe('argument/option');
    expect(code('nope', true)).toBe('argument/option');
    expect(code('toString', true)).toBe('argument/option');
    expect(code('awq', true, 1)).toBe('argument/option'); // 1 bit has no positive code
    expect(code('gptq', true, 1)).toBe('accepted');
  });

  // What each rule makes of groups that the rules disagree on. Two presets with one answer to all of them are one rule.
  it('tells every preset from every other', () => {
    const probes = [
      [-3, 1.5, 2],
      [-2, 3],
      [2, -2],
      [-2, 2],
      [5, 6.5],
      [0, 0],
      [1e-7, -2e-7],
      [-3e-6, 4e-6],
    ];
    const same: string[] = [];
    for (const symmetric of [true, false]) {
      const able = names.filter((n) => (symmetric ? PRESETS[n].symmetric : PRESETS[n].asymmetric));
      const answers = able.map((n) => JSON.stringify(probes.map((p) => params(p, n, symmetric))));
      for (let i = 0; i < able.length; i++) {
        for (let j = 0; j < i; j++)
          if (answers[i] === answers[j]) same.push(`${able[j]} = ${able[i]}, ${symmetric ? 'symmetric' : 'asymmetric'}`);
      }
    }
    // The published rules are the same there: max(|w|, 1e-5) / 7.
    expect(same).toEqual(['awq = smoothquant, symmetric']);
  });

  describe('makes the errors of the published rules', () => {
    const rng = createRng(1);
    const normal: Matrix = matrix(
      Float32Array.from({ length: 1 << 20 }, () => rng.normal()),
      1024,
      1024,
    );
    const data = {
      normal,
      shifted: matrix(
        normal.data.map((v) => v + 3),
        1024,
        1024,
      ),
    };
    const errors = (o: { preset: PresetName; symmetric: boolean; bits: number; data: 'normal' | 'shifted' }) => {
      const w = data[o.data];
      const { weight, report } = rtn(w, { bits: o.bits, groupSize: 64, preset: o.preset, symmetric: o.symmetric, scaleFormat: 'fp32' });
      const decoded = decode(weight).data;
      let sum = 0;
      for (let i = 0; i < decoded.length; i++) sum += Math.abs(decoded[i]! - w.data[i]!);
      return [sum / decoded.length, report.relativeError] as const;
    };

    // Another sample than that of the figures: a million values leave a mean |error| that is good to about 0.1 %; hence 1 %.
    const within = (got: number, want: number, part = 0.01) => expect(Math.abs(got / want - 1), `${got} for ${want}`).toBeLessThan(part);

    // Mean |error| and relative RMS error on N(0, 1), groups of 64, as measured before this code was written.
    const figures: [PresetName, boolean, number, number][] = [
      ['awq', true, 0.09145, 0.1077],
      ['gptq', true, 0.08799, 0.1028],
      ['auto-round', true, 0.08049, 0.095],
      ['gptq', false, 0.07816, 0.091],
    ];
    for (const [preset, symmetric, mean, rms] of figures) {
      it(`separates the conventions: ${preset} ${symmetric ? 'symmetric' : 'asymmetric'}`, () => {
        const got = errors({ preset, symmetric, bits: 4, data: 'normal' });
        within(got[0], mean);
        within(got[1], rms);
      });
    }

    const golden = JSON.parse(readFileSync(new URL('golden/golden.json', import.meta.url), 'utf8')) as {
      presets: { preset: PresetName; symmetric: boolean; bits: number; data: 'normal' | 'shifted'; mean: number; rms: number }[];
    };
    for (const { mean, rms, ...o } of golden.presets) {
      it(`${o.preset} ${o.symmetric ? 'symmetric' : 'asymmetric'}, ${o.bits} bits, ${o.data}`, () => {
        const got = errors(o);
        // awq clips a group without negative values by its least weight: few groups make the whole error, so it varies more.
        const part = o.preset === 'awq' && !o.symmetric && o.data === 'shifted' ? 0.04 : 0.01;
        within(got[0], mean, part);
        within(got[1], rms, part);
      });
    }
    it('covers every rule', () => {
      const covered = new Set(golden.presets.map((p) => `${p.preset} ${p.symmetric}`));
      for (const n of names) {
        if (PRESETS[n].symmetric) expect(covered.has(`${n} true`)).toBe(true);
        if (PRESETS[n].asymmetric) expect(covered.has(`${n} false`)).toBe(true);
      }
    });
  });
});
