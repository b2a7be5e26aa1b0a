// The commands as people run them, on lmq-nano.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { passkey } from '@lmq/nano';
import { describe, expect, it } from 'vitest';
import { listing, lmq, scratch, spawnLmq } from './_lmq.js';

const dir = scratch();
const path = (name: string) => join(dir, name);
const validation = fileURLToPath(new URL('../../nano/data/validation.txt', import.meta.url));
/** Flags that leave all but the first blocks as they are, where more of the same would prove no more. */
const FIRST_BLOCK = ['--skip', 're:.*layers\\.[1-9]'];
const TWO_BLOCKS = ['--skip', 're:.*layers\\.[2-9]'];
const sections = readFileSync(new URL('../../../docs/cli.md', import.meta.url), 'utf8').split('\n### ');

/** Runs a command that succeeds; every field of its result is in docs/cli.md. */
const ok = (...args: string[]) => succeed(lmq, args);
/** The same as a process of its own. */
const okSpawned = (...args: string[]) => succeed(spawnLmq, args);

async function succeed(run: typeof lmq, args: string[]) {
  const r = await run([...args, '--json', '--quiet']);
  expect({ code: r.code, stderr: r.stderr }).toEqual({ code: 0, stderr: '' });
  const commands = args[0] === 'compare' ? ['compare', 'eval'] : [args[0]]; // its rows are those of eval with more
  const documented = commands.map((c) => sections.find((s) => s.startsWith(`\`lmq ${c}\``))!).join();
  const rows = [r.json()].flat();
  for (const field of rows.flatMap((row) => Object.keys(row))) expect(documented).toContain(`\`${field}\``);
  return r.json() as unknown as Record<string, never>;
}

describe('inspect', () => {
  it('lists every tensor', async () => {
    const r = await ok('inspect', 'lmq-nano');
    expect(r).toMatchObject({
      format: 'safetensors',
      parameters: 2048 * 256 + 4 * (2 * 256 * 256 + 2 * 64 * 256 + 3 * 640 * 256 + 2 * 256) + 256,
      warnings: [],
    });
    expect(r.tensors).toHaveLength(38);
  });
  it('prints a table for people', async () => {
    const { stdout } = await spawnLmq(['inspect', 'lmq-nano']);
    expect(stdout).toContain('model.layers.3.mlp.down_proj.weight');
    expect(stdout).toContain('256 × 640');
  });
});

describe('quantize, eval and generate', () => {
  it('GPTQ into an lmq folder that loads back', async () => {
    const q = await okSpawned('quantize', 'lmq-nano', '-o', path('q4'), '--bits', '4', '--group-size', '64', '--samples', '4');
    expect(q).toMatchObject({ method: 'gptq', bitsPerWeight: 4.3125, variant: 'wasm-simd128' });
    expect(q.layers).toHaveLength(28);
    expect(listing(path('q4'))).toEqual(
      expect.arrayContaining(['config.json', 'lmq.json', 'lmq-report.json', 'model.safetensors', 'tokenizer.json']),
    );
    expect(listing(dir).filter((f) => f.startsWith('.'))).toEqual([]); // no working folder left

    const e = await ok('eval', path('q4'), '--windows', '4', '--against', 'lmq-nano', '--text', validation);
    expect(e).toMatchObject({ tokens: 4 * 511, context: 512, bitsPerWeight: 4.3125 });
    expect(e.kl).toBeGreaterThan(0.001);
    expect(e.kl).toBeLessThan(0.15);
    expect(e.top1).toBeGreaterThan(0.75);
    const file = readFileSync(join(path('q4'), 'model.safetensors')).length;
    expect(file - (e.bytes as number)).toBeLessThan(20_000); // the header

    const g = await ok('generate', path('q4'), '--prompt', 'It was a dark and stormy night, and the', '-n', '12');
    expect(g.ids).toHaveLength(12);
  });

  it('overrides and skips', async () => {
    const q = await ok(
      'quantize',
      'lmq-nano',
      '-o',
      path('mixed'),
      '--method',
      'rtn',
      '--bits',
      '3',
      '--override',
      '*down_proj:bits=8,group-size=32',
      '--skip',
      '*.layers.0.*',
    );
    const layers = q.layers as unknown as { name: string; bits: number; groupSize: number }[];
    expect(layers).toHaveLength(21);
    expect(layers.filter((l) => l.bits === 8 && l.groupSize === 32)).toHaveLength(3);
    expect(layers.every((l) => !l.name.includes('.layers.0.'))).toBe(true);
    const i = await ok('inspect', path('mixed'));
    const formats = new Map((i.tensors as unknown as { name: string; format: string }[]).map((t) => [t.name, t.format]));
    expect(formats.get('model.layers.0.mlp.down_proj.weight')).toBe('bf16');
    expect(formats.get('model.layers.1.mlp.down_proj.weight')).toContain('8-bit');
  });

  it('a recipe file does what the flags do, byte for byte', async () => {
    const recipe = path('recipe.json');
    writeFileSync(
      recipe,
      JSON.stringify({
        stages: [{ method: 'gptq', bits: 3, groupSize: 128, symmetric: true }],
        overrides: [{ match: TWO_BLOCKS[1], skip: true }],
        calibration: { samples: 4 },
      }),
    );
    await ok('quantize', 'lmq-nano', '-o', path('by-recipe'), '--recipe', recipe);
    const flags = ['--bits', '3', '--group-size', '128', '--symmetric', '--samples', '4', ...TWO_BLOCKS];
    await ok('quantize', 'lmq-nano', '-o', path('by-flags'), ...flags);
    const weights = (name: string) => readFileSync(join(path(name), 'model.safetensors'));
    expect(weights('by-recipe').equals(weights('by-flags'))).toBe(true);
  });

  it('equalizing stages reach the recipe and the report; a recipe file does the same', async () => {
    const flags = ['--equalize', 'smoothquant:alpha=0.4', '--equalize', 'awq:duo-scaling=true,clip=false'];
    const common = ['--samples', '1', '--seq-len', '32'];
    const q = await okSpawned('quantize', 'lmq-nano', '-o', path('equalized'), ...flags, '--method', 'rtn', '--bits', '4', ...common);
    const equalized = q.equalized as unknown as { pairs: { method: string; alpha?: number }[]; skipped: { name: string }[] }[];
    expect(equalized.map((e) => e.pairs[0]!.method)).toEqual([...Array(4).fill('smoothquant'), ...Array(4).fill('awq')]);
    expect(equalized[0]!.pairs[0]!.alpha).toBe(0.4);
    expect(equalized[4]!.skipped.map((s) => s.name)).toEqual(['model.layers.0.self_attn.o_proj']);
    const stages = [
      { method: 'smoothquant', alpha: 0.4 },
      { method: 'awq', duoScaling: true, clip: false },
      { method: 'rtn', bits: 4 },
    ];
    writeFileSync(path('equalize.json'), JSON.stringify({ stages, calibration: { samples: 1, seqLen: 32 } }));
    await ok('quantize', 'lmq-nano', '-o', path('equalized-2'), '--recipe', path('equalize.json'));
    const weights = (name: string) => readFileSync(join(path(name), 'model.safetensors'));
    expect(weights('equalized-2').equals(weights('equalized'))).toBe(true);
    const e = await okSpawned('estimate', 'lmq-nano', ...flags, '--method', 'rtn', '--bits', '4', ...common); // of a process that does nothing else
    expect(e.outputBytes).toBe(q.bytes);
    expect(q.peakRss as number).toBeLessThan(e.peakRss as number);
  });

  it('true-sequential calibration shows later linears of a block the quantized earlier ones', async () => {
    const losses = async (name: string, ...flags: string[]) => {
      const common = ['--bits', '2', '--group-size', '32', '--samples', '4', ...FIRST_BLOCK];
      const q = await ok('quantize', 'lmq-nano', '-o', path(name), ...common, ...flags);
      return (q.layers as unknown as { name: string; loss: number }[]).map((l) => l.loss);
    };
    const plain = await losses('plain');
    const sequential = await losses('sequential', '--true-sequential');
    expect(sequential.slice(0, 3)).toEqual(plain.slice(0, 3)); // q, k, v of the first block see the same inputs
    expect(sequential[3]).not.toBe(plain[3]); // o already sees what quantized q, k, v do
  });

  it('GPTAQ: later linears are quantized for the original model’s outputs, and the report says how far they are from them', async () => {
    const layersOf = async (name: string, ...flags: string[]) => {
      const q = await ok('quantize', 'lmq-nano', '-o', path(name), '--bits', '3', '--samples', '4', ...TWO_BLOCKS, ...flags);
      return q.layers as unknown as { loss: number; asymmetricLoss?: number }[];
    };
    const plain = await layersOf('gptq-plain');
    const quarter = await layersOf('gptaq', '--gptaq');
    const all = await layersOf('gptaq-all', '--gptaq', '1');
    expect(plain.every((l) => l.asymmetricLoss === undefined)).toBe(true);
    expect(quarter.every((l) => Number.isFinite(l.asymmetricLoss))).toBe(true);
    const last = [plain, quarter, all].map((layers) => layers.at(-1)!.loss);
    expect(new Set(last).size).toBe(3);
  });

  it('the other options of GPTQ reach the recipe that the folder keeps', async () => {
    const stageOf = async (name: string, ...flags: string[]) => {
      await ok('quantize', 'lmq-nano', '-o', path(name), '--bits', '3', '--group-size', '64', '--samples', '1', ...FIRST_BLOCK, ...flags);
      return JSON.parse(readFileSync(join(path(name), 'lmq.json'), 'utf8')).info.recipe.stages[0];
    };
    const defaults = { dampIncrement: 0.01, foem: false, staticGroups: false };
    expect(await stageOf('stage-defaults')).toMatchObject(defaults);
    expect(await stageOf('stage-foem', '--foem', '--static-groups', '--damp-increment', '0.05')).toMatchObject({
      dampIncrement: 0.05,
      foem: true,
      staticGroups: true,
    });
    const ordered = ['--foem', '0.5', '--act-order', '--static-groups', 'ordered'];
    expect(await stageOf('stage-ordered', ...ordered)).toMatchObject({ ...defaults, foem: 0.5, actOrder: true, staticGroups: 'ordered' });
  });

  it('trits, a fallback, a table and a regular expression reach it too', async () => {
    const recipeOf = async (name: string, ...flags: string[]) => {
      await ok('quantize', 'lmq-nano', '-o', path(name), '--group-size', '64', '--samples', '1', ...flags);
      return JSON.parse(readFileSync(join(path(name), 'lmq.json'), 'utf8')).info.recipe;
    };
    const trits = await recipeOf('trits', '--trits', '--symmetric', '--clip', 'imatrix', '--skip', 're:.*layers\\.[1-9]');
    expect(trits.stages[0]).toMatchObject({ bits: 2, trits: true, clip: 'imatrix' });
    expect(trits.overrides).toEqual([{ match: 're:.*layers\\.[1-9]', skip: true }]);
    expect((await recipeOf('fallback', '--fallback', 'median,mad')).stages[0].fallback).toEqual({ strategy: 'median', smooth: 'mad' });
    const table = await recipeOf('table', '--table', 'fp4', '--skip', 're:.*layers\\.[1-9]');
    expect(table.stages[0]).toMatchObject({ method: 'gptq', bits: 4, table: 'fp4' });
  });

  it('mixed precision: at most what was allowed and estimated; a map of what each linear got', async () => {
    const flags = ['--method', 'rtn', '--group-size', '128', '--budget-bits', '3.6', '--budget-candidates', '3,4,16', '--samples', '2'];
    const q = await ok('quantize', 'lmq-nano', '-o', path('budget'), ...flags, '--skip', '*k_proj');
    const budget = q.budget as unknown as { bitsPerWeight: number; measure: string; linears: object[] };
    expect(budget).toMatchObject({ bits: 3.6, measure: 'output', solver: 'knapsack' });
    expect(budget.bitsPerWeight).toBeLessThanOrEqual(3.6);
    expect(budget.linears).toHaveLength(24);
    const e = await ok('estimate', 'lmq-nano', ...flags, '--skip', '*k_proj');
    expect(e.outputBytes).toBeGreaterThanOrEqual(q.bytes as number);
    expect(e.outputBytes as number).toBeLessThan(1.005 * (q.bytes as number));
    expect(e.bitsPerWeight).toBe(3.6);
    expect((e.steps as unknown as { step: string }[]).map((s) => s.step)).toContain('measure candidates (output)');
    const small = ['--budget-bits', '15', '--budget-measure', 'weight', '--budget-solver', 'greedy', '--budget-candidates', '8,16'];
    const { stdout } = await lmq(['quantize', 'lmq-nano', '-o', path('budget-map'), '--method', 'rtn', ...small]);
    expect(stdout).toMatch(/^block +q +k +v +o +gate +up +down\n─[─ ]+\n0 +[8·] +[8·]/);
    expect(stdout).toContain('· kept as it is');
    const none = await lmq(['quantize', 'lmq-nano', '-o', path('budget-none'), '--budget-bits', '1', '--json']);
    expect(none.json().error!.message).toContain('at least 2.0');
    const alone = await lmq(['quantize', 'lmq-nano', '-o', path('budget-none'), '--budget-measure', 'kl', '--json']);
    expect(alone.json().error!.message).toContain('--budget-measure is of no use without --budget-bits');
  });

  it('ranges by mean squared error', async () => {
    const errorOf = async (name: string, ...flags: string[]) => {
      const q = await ok('quantize', 'lmq-nano', '-o', path(name), '--method', 'rtn', '--bits', '3', ...FIRST_BLOCK, ...flags);
      return (q.layers as unknown as { error: number }[]).reduce((sum, l) => sum + l.error, 0);
    };
    const minmax = await errorOf('minmax', '--clip', 'minmax');
    expect(minmax).toBe(await errorOf('default'));
    expect(await errorOf('mse', '--clip', 'mse')).toBeLessThan(minmax);
  });

  it('int8 inputs, and the share of outlier columns', async () => {
    const quantize = (name: string, input: string, ...flags: string[]) =>
      ok('quantize', 'lmq-nano', '-o', path(name), '--method', 'rtn', '--bits', '8', '--symmetric', '--input', input, ...flags);
    const q = await quantize('llm-int8', 'llm-int8');
    expect(q.layers[0]).toMatchObject({ input: { kind: 'llm-int8', threshold: 6 } });
    const e = await ok('eval', path('llm-int8'), '--text', validation, '--windows', '2');
    expect(e.outlierColumns).toBeGreaterThan(0.03); // 4.1 % over 40 windows
    expect(e.outlierColumns).toBeLessThan(0.06);
    expect((await lmq(['eval', path('llm-int8'), '--text', validation, '--windows', '1'])).stdout).toMatch(/outlier columns \d/);
    const fixed = await quantize('static', 'int8-static', '--samples', '2', '--seq-len', '64');
    expect(fixed.layers[0]).toMatchObject({ input: { kind: 'int8', per: 'tensor', static: { zeroPoint: 0 } } });
    const b = await ok('eval', 'lmq-nano', '--windows', '2');
    expect(Math.abs(e.perplexity / b.perplexity - 1)).toBeLessThan(0.01);
    expect(e.outlierColumns && b.outlierColumns).toBeUndefined();
  });

  it('GGUF and back: the same weights, within half precision', async () => {
    await ok('quantize', 'lmq-nano', '-o', path('f16.gguf'), '--method', 'none', '--export', 'gguf:f16');
    const a = await ok('eval', path('f16.gguf'), '--text', validation, '--windows', '2');
    const b = await ok('eval', 'lmq-nano', '--windows', '2');
    expect(Math.abs((a.perplexity as number) / (b.perplexity as number) - 1)).toBeLessThan(1e-4);
  });

  it('GGUF mixtures, with importances that calibrate saved, in parts, other types by flags', async () => {
    await ok('calibrate', 'lmq-nano', '-o', path('importance.gguf'), '--export', 'imatrix', '--samples', '2');
    await ok('calibrate', 'lmq-nano', '-o', path('importance.dat'), '--export', 'imatrix-dat', '--samples', '2');
    const flags = ['--export', 'gguf:q4_k_m', '--override', 'lm_head:type=q8_0', '--skip', '*.layers.0.mlp.*'];
    const q = await ok(
      'quantize',
      'lmq-nano',
      '-o',
      path('mix.gguf'),
      ...flags,
      '--importance',
      path('importance.gguf'),
      '--max-shard-size',
      '1MB',
    );
    expect(q.method).toBe('ggml');
    expect(q.output).toMatch(/mix-00001-of-0000[3-9]\.gguf$/);
    const i = await ok('inspect', q.output as string);
    const formats = new Map((i.tensors as unknown as { name: string; format: string }[]).map((t) => [t.name, t.format]));
    expect([...formats.values()].filter((f) => f === 'Q6_K').length).toBeGreaterThan(0);
    expect(['token_embd', 'blk.0.ffn_up', 'blk.1.ffn_up'].map((n) => formats.get(`${n}.weight`))).toEqual(['Q8_0', 'fp16', 'Q4_K']);
    const e = await ok('eval', q.output as string, '--text', validation, '--windows', '2');
    const b = await ok('eval', 'lmq-nano', '--windows', '2');
    expect((e.perplexity as number) / (b.perplexity as number)).toBeLessThan(1.1);
    for (const kind of ['dat', 'gguf'])
      await ok('quantize', 'lmq-nano', '-o', path(`by-${kind}.gguf`), ...flags, ...FIRST_BLOCK, '--importance', path(`importance.${kind}`));
    const sizes = ['by-dat.gguf', 'by-gguf.gguf'].map((name) => readFileSync(path(name)).length);
    expect(sizes[0]).toBe(sizes[1]);
  });

  it('passkey', async () => {
    const { documents, ...rest } = JSON.parse(readFileSync(passkey, 'utf8'));
    writeFileSync(path('passkey.json'), JSON.stringify({ ...rest, documents: documents.slice(0, 4) }));
    const e = await ok('eval', 'lmq-nano', '--windows', '1', '--passkey', path('passkey.json'));
    expect(e.passkey).toBe(1);
  });

  it('token ids as text are used as they are', async () => {
    writeFileSync(
      path('ids.json'),
      JSON.stringify([
        [0, 5, 9, 300, 41],
        [7, 8, 9],
      ]),
    );
    expect(await ok('eval', 'lmq-nano', '--text', path('ids.json'))).toMatchObject({ tokens: 4 + 2 });
  });
});

describe('calibrate', () => {
  it('once, for any bits: the file serves quantize, estimate and compare', async () => {
    const file = path('statistics.safetensors');
    const c = await ok('calibrate', 'lmq-nano', '-o', file, '--samples', '4');
    expect(c).toMatchObject({ inputs: 16, tokens: 4 * 512, unreached: [], variant: 'wasm-simd128' });
    for (const bits of ['4', '3']) {
      const flags = ['--bits', bits, '--group-size', '64', '--statistics', file];
      const q = await ok('quantize', 'lmq-nano', '-o', path(`by-statistics-${bits}`), ...flags);
      expect((q.layers as unknown as { tokens: number }[]).every((l) => l.tokens === 4 * 512)).toBe(true);
      expect((await ok('estimate', 'lmq-nano', ...flags)).outputBytes).toBe(q.bytes);
    }
    const flags = ['--methods', 'gptq', '--bits', '3', '--group-size', '64', '--windows', '2'];
    const [, saved] = (await ok('compare', 'lmq-nano', ...flags, '--statistics', file)) as unknown as Record<string, number>[];
    const [, live] = (await ok('compare', 'lmq-nano', ...flags, '--samples', '4')) as unknown as Record<string, number>[];
    const quantized = await ok('eval', path('by-statistics-3'), '--windows', '2', '--against', 'lmq-nano', '--text', validation);
    expect(saved!.kl).toBe(quantized.kl);
    expect(saved!.kl).not.toBe(live!.kl); // inputs of the original model, not of the quantized one
    expect(Math.abs(saved!.kl! / live!.kl! - 1)).toBeLessThan(0.5);
  });
  it('squared gradients, for SqueezeLLM', async () => {
    const file = path('fisher.safetensors');
    const c = await ok('calibrate', 'lmq-nano', '-o', file, '--export', 'fisher', '--samples', '1', '--seq-len', '64');
    expect(c).toMatchObject({ inputs: 28, tokens: 64, unreached: [], starved: [] });
    const flags = ['--method', 'squeezellm', '--bits', '2', '--skip', '*mlp*'];
    const saved = await ok('quantize', 'lmq-nano', '-o', path('by-fisher'), ...flags, '--fisher', file);
    const live = await ok('quantize', 'lmq-nano', '-o', path('by-text'), ...flags, '--samples', '1', '--seq-len', '64');
    const errors = (q: typeof saved) =>
      (q.layers as unknown as { error: number; sensitivity: string }[]).map((l) => [l.sensitivity, l.error]);
    expect(errors(saved)).toEqual(errors(live));
    expect(errors(saved).every(([kind]) => kind === 'fisher')).toBe(true);
    const compared = ['--methods', 'squeezellm', '--bits', '2', '--skip', '*mlp*', '--windows', '1', '--samples', '1', '--seq-len', '64'];
    const [, row] = (await ok('compare', 'lmq-nano', ...compared)) as unknown as Record<string, number>[];
    expect(row!.bytes).toBe(saved.bytes);
  });
  it('experts that too few tokens reach, and a head of its own', async () => {
    const file = path('experts.safetensors');
    const c = await ok('calibrate', 'lmq-nano-moe', '-o', file, '--samples', '1', '--min-tokens', '100');
    expect(c).toMatchObject({ inputs: 4 * (2 + 2 * 8) + 1, unreached: [] });
    const starved = c.starved as unknown as string[];
    expect(starved.length).toBeGreaterThan(0);
    const flags = ['--bits', '4', '--include', 'lm_head'];
    const q = await ok('quantize', 'lmq-nano-moe', '-o', path('experts'), ...flags, '--statistics', file);
    const layers = q.layers as unknown as { name: string; fallback?: string }[];
    expect(layers.at(-1)!.name).toBe('lm_head');
    expect(layers.filter((l) => l.fallback?.startsWith('too few calibration tokens'))).toHaveLength((starved.length / 2) * 3); // gate, up, down
    const live = await ok('quantize', 'lmq-nano-moe', '-o', path('experts-live'), ...flags, '--samples', '1', '--min-tokens', '100');
    expect(JSON.stringify(live.layers)).toContain('calibrated on all tokens');
    const opts = ['--methods', 'rtn', '--windows', '1'];
    const [, without] = (await ok('compare', 'lmq-nano-moe', ...opts)) as unknown as Record<string, number>[];
    const [, head] = (await ok('compare', 'lmq-nano-moe', ...opts, '--include', 'lm_head')) as unknown as Record<string, number>[];
    expect(head!.bytes).toBeLessThan(without!.bytes!);
    expect(head!.kl).toBeGreaterThan(without!.kl!);
  });
});

describe('where to compute', () => {
  it('the kernel by name, and any number of threads to the same bytes', async () => {
    const flags = ['--bits', '3', '--samples', '2', '--kernel', 'simd128', ...TWO_BLOCKS];
    const one = await ok('quantize', 'lmq-nano', '-o', path('one'), ...flags, '--threads', '1');
    expect(one.variant).toBe('wasm-simd128');
    await ok('quantize', 'lmq-nano', '-o', path('two'), ...flags, '--threads', '2');
    await ok('quantize', 'lmq-nano', '-o', path('as-many'), ...flags);
    const weights = (name: string) => readFileSync(join(path(name), 'model.safetensors'));
    expect(weights('two').equals(weights('one'))).toBe(true);
    expect(weights('as-many').equals(weights('one'))).toBe(true);
  });
});

describe('compare', () => {
  it('measures every method and width against the original', async () => {
    const rows = (await ok(
      'compare',
      'lmq-nano',
      '--methods',
      'rtn,gptq',
      '--bits',
      '4,2',
      '--group-size',
      '64',
      '--windows',
      '2',
      '--samples',
      '8',
    )) as unknown as Record<string, number>[];
    expect(rows.map((r) => [r.method, r.bits])).toEqual([
      ['original', undefined],
      ['rtn', 4],
      ['rtn', 2],
      ['gptq', 4],
      ['gptq', 2],
    ]);
    const kl = rows.map((r) => r.kl!);
    expect(kl[0]).toBe(0);
    expect(kl[3]).toBeLessThan(kl[1]!); // GPTQ beats rounding at both widths
    expect(kl[4]).toBeLessThan(kl[2]!);
    expect(kl[1]).toBeLessThan(kl[2]!);
  });
});
