import { describe, expect, it } from 'vitest';
import { checkStage, METHODS, matches, parseRecipe, STAGE_DEFAULTS, stageFor } from '../src/recipe.js';

const message = (f: () => unknown): string => {
  try {
    f();
  } catch (e) {
    return (e as Error).message;
  }
  return 'nothing was thrown';
};

describe('parseRecipe', () => {
  it('fills in the defaults', () => {
    const r = parseRecipe({ stages: [{ method: 'gptq' }] });
    expect(r.stages).toEqual([STAGE_DEFAULTS]);
    expect(r.calibration).toEqual({ samples: 128, seed: 0 });
    expect(r.export).toBe('lmq');
  });
  it.each([
    [null, 'recipe is not an object'],
    [{ stage: [] }, 'unknown field recipe.stage'],
    [{ stages: [{}] }, 'stages[0].method is missing'],
    [{ stages: [{ method: 'nf5' }] }, 'unknown stages[0].method'],
    [{ stages: [{ method: 'rtn', bits: 9 }] }, 'stages[0].bits is out of range'],
    [{ stages: [{ method: 'rtn', bits: '4' }] }, 'stages[0].bits is out of range'],
    [{ stages: [{ method: 'rtn', groupSize: 0 }] }, 'stages[0].groupSize is out of range'],
    [{ stages: [{ method: 'rtn', symmetric: 1 }] }, 'stages[0].symmetric is not true or false'],
    [{ stages: [{ method: 'rtn', clip: 'best' }] }, 'unknown stages[0].clip'],
    [{ stages: [{ method: 'rtn', trits: 1 }] }, 'stages[0].trits is not true or false'],
    [{ stages: [{ method: 'gptq', fallback: 'mode' }] }, 'unknown strategy'],
    [{ stages: [{ method: 'gptq', fallback: { strategy: 'mean', smooth: { method: 'mad', k: -1 } } }] }, 'smooth.k is out of range'],
    [{ stages: [{ method: 'gptq', fallback: { strategy: 'mean', smoother: 'mad' } }] }, 'unknown field stages[0].fallback.smoother'],
    [{ stages: [{ method: 'gptq', fallback: null }] }, 'stages[0].fallback is not an object'],
    [{ overrides: [{ match: 're:a)(b', bits: 4 }] }, 'not a regular expression'],
    [{ overrides: [{ match: 're:[', skip: true }] }, 'not a regular expression'],
    [{ stages: [{ method: 'gptq', dampPercent: 1 }] }, 'stages[0].dampPercent is out of range'],
    [{ stages: [{ method: 'gptq', dampIncrement: -0.1 }] }, 'stages[0].dampIncrement is out of range'],
    [{ stages: [{ method: 'gptq', foem: 2 }] }, 'stages[0].foem is out of range'],
    [{ stages: [{ method: 'gptq', foem: 'yes' }] }, 'stages[0].foem is out of range'],
    [{ stages: [{ method: 'gptq', staticGroups: 'sorted' }] }, 'stages[0].staticGroups is not true or false'],
    [{ stages: [{ method: 'rtn' }, { method: 'gptq' }] }, 'only one stage'],
    [{ overrides: [{ bits: 4 }] }, 'overrides[0].match is missing'],
    [{ overrides: [{ match: '*', trueSequential: true }] }, 'whole stage'],
    [{ export: 'tflite' }, 'unknown export'],
    [{ calibration: { samples: 0 } }, 'calibration.samples is out of range'],
  ])('refuses %j', (input, text) => {
    expect(message(() => parseRecipe(input))).toContain(text);
  });
});

describe('a parsed recipe', () => {
  it.each(METHODS)('of %s is taken again, as it is and through JSON', (method) => {
    const overrides = [{ match: '*down_proj', skip: true }];
    const recipe = parseRecipe({ stages: [{ method }], overrides, export: method === 'ggml' ? 'gguf:q4_k_m' : 'lmq' });
    expect(parseRecipe(recipe)).toEqual(recipe);
    expect(parseRecipe(JSON.parse(JSON.stringify(recipe)))).toEqual(recipe);
  });
  it('of ggml still has no options', () => {
    const recipe = parseRecipe({ stages: [{ method: 'ggml' }], export: 'gguf:q4_k_m' });
    const stages = (change: object) => [{ ...recipe.stages[0], ...change }];
    expect(message(() => parseRecipe({ ...recipe, stages: stages({ bits: 3 }) }))).toContain('ggml takes no options');
    expect(message(() => parseRecipe({ ...recipe, stages: [{ method: 'ggml', bits: 4 }] }))).toContain('ggml takes no options');
  });
});

describe('stageFor', () => {
  it('applies matching overrides in order, option by option', () => {
    const r = parseRecipe({
      stages: [{ method: 'gptq', bits: 4 }],
      overrides: [
        { match: '*down_proj', bits: 8, groupSize: 64 },
        { match: '*.0.*', bits: 3 },
        { match: '*.1.mlp.down_proj', skip: true },
      ],
    });
    expect(stageFor(r, 'layers.2.mlp.down_proj')).toMatchObject({ bits: 8, groupSize: 64 });
    expect(stageFor(r, 'layers.0.mlp.down_proj')).toMatchObject({ bits: 3, groupSize: 64 });
    expect(stageFor(r, 'layers.1.mlp.down_proj')).toBeNull();
    expect(stageFor(r, 'layers.1.mlp.up_proj')).toMatchObject({ bits: 4, groupSize: -1 });
  });
});

describe('checkStage', () => {
  const check = (options: object) => message(() => checkStage({ ...STAGE_DEFAULTS, ...options }, 'layers.0.mlp.up_proj'));
  it.each([
    [{ gptaq: true, foem: 0.1 }, 'gptaq and foem exclude each other (tensor layers.0.mlp.up_proj)'],
    [{ actOrder: true, groupAware: true }, 'actOrder and groupAware exclude each other'],
    [{ staticGroups: 'ordered' }, "staticGroups 'ordered' needs actOrder"],
  ])('refuses %j', (options, text) => expect(check(options)).toContain(text));
  it.each([
    [{}],
    [{ foem: true }],
    [{ actOrder: true, staticGroups: 'ordered' }],
    [{ method: 'rtn', gptaq: true, foem: true }], // not asked for by this method
  ])('takes %j', (options) => expect(check(options)).toBe('nothing was thrown'));
});

describe('matches', () => {
  it.each([
    ['a.b', 'a.b', true],
    ['a.b', 'axb', false],
    ['*', '', true],
    ['a*', 'abc', true],
    ['*c', 'abc', true],
    ['a*a', 'a', false],
    ['a*b*c', 'a--b--c', true],
    ['a*b*c', 'a--c--b', false],
    ['*.layers.1.*', 'model.layers.11.x', false],
    ['*.layers.1.*', 'model.layers.1.x', true],
  ])('%s against %s: %s', (pattern, name, yes) => {
    expect(matches(pattern, name)).toBe(yes);
  });
});

describe('checkStage', () => {
  it('refuses what no linear could be quantized with', () => {
    const at = (stage: object) => message(() => checkStage({ ...STAGE_DEFAULTS, ...stage }, 'layers.0.o'));
    expect(at({ clip: { method: 'mse', adjacentZeroPoints: true } })).toBe('nothing was thrown');
    expect(at({ clip: { method: 'mse', adjacentZeroPoints: true }, symmetric: true })).toContain('adjacentZeroPoints');
    expect(at({ method: 'rtn', clip: { method: 'imatrix', grid: 0 } })).toContain('clip.grid');
    expect(at({ method: 'rtn', preset: 'best' })).toContain('unknown preset');
  });
});

describe('trits in a stage', () => {
  it('take 2 bits, and are refused with what they do not go with', () => {
    const r = parseRecipe({ stages: [{ method: 'gptq', trits: true }], overrides: [{ match: '*.1.*', trits: false, bits: 4 }] });
    expect(stageFor(r, 'layers.0.o')).toMatchObject({ trits: true, bits: 2 });
    expect(stageFor(r, 'layers.1.o')).toMatchObject({ trits: false, bits: 4 });
    const mixed = parseRecipe({ stages: [{ method: 'rtn', bits: 4 }], overrides: [{ match: '*.1.*', trits: true }] });
    expect(stageFor(mixed, 'layers.1.o')).toMatchObject({ trits: true, bits: 2 });
    const at = (stage: object) => message(() => checkStage({ ...STAGE_DEFAULTS, bits: 2, trits: true, ...stage }, 'layers.0.o'));
    expect(at({})).toBe('nothing was thrown');
    expect(at({ bits: 3 })).toContain('stored in 2 bits');
    expect(at({ preset: 'awq' })).toContain('no scale convention');
    expect(at({ fallback: 'rtn' })).toContain('exclude each other');
  });
});

describe('a pattern that is a regular expression', () => {
  it.each([
    ['re:.*down_proj', 'layers.0.mlp.down_proj', true],
    ['re:.*down_proj$', 'layers.0.mlp.down_proj_2', false],
    ['re:layers\\.[0-3]\\.', 'layers.3.mlp.up_proj', true], // from the beginning on, not to the end
    ['re:layers\\.[0-3]\\.', 'layers.30.mlp.up_proj', false],
    ['re:down_proj', 'layers.0.mlp.down_proj', false],
    ['re:(?!.*down).*proj', 'layers.0.mlp.up_proj', true],
    ['re:a|layers', 'layers.0', true],
    ['re:a|b', 'xb', false],
  ])('%s of %s: %s', (pattern, name, fits) => {
    expect(matches(pattern, name)).toBe(fits);
  });
});
