// Killed at any moment, with no chance to clean up, and started again: the same bytes as without the interruption.
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRng, isLmqError } from '@lmq/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fingerprintOf } from '../src/_node/fingerprint.js';
import { openModel } from '../src/_node/open-model.js';
import { quantizeModel } from '../src/_node/quantize-model.js';
import { openWorkFolder, workPath } from '../src/_node/work-folder.js';
import { parseRecipe } from '../src/recipe.js';
import { openNano, windows } from './_nano.js';

/** Rounds of kill and resume. LMQ_KILL_ROUNDS=100 for the long run. */
const ROUNDS = Number(process.env.LMQ_KILL_ROUNDS ?? 2);
const dir = mkdtempSync(join(tmpdir(), 'lmq-resume-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The whole run as a script of its own, on the built package, so that it can be killed. */
const script = join(dir, 'run.mjs');
writeFileSync(
  script,
  `const [root, work, output, lastMoment] = process.argv.slice(2);
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
const { rm } = fs.promises;
if (lastMoment) {
  fs.promises.rm = (path, ...rest) => (path.endsWith('.lmq-work') ? process.kill(process.pid, 'SIGKILL') : rm(path, ...rest));
  syncBuiltinESMExports();
}
const { calibrateModel, openModel, quantizeModel } = await import(root + 'pipeline/dist/node.js');
const { parseRecipe } = await import(root + 'pipeline/dist/index.js');
const { wasmBackend } = await import(root + 'kernels-wasm/dist/index.js');
const { readFileSync } = await import('node:fs');
const calibration = JSON.parse(readFileSync(root + 'nano/data/calibration.json', 'utf8')).slice(0, 2);
const { model: name, recipe } = JSON.parse(work);
const model = await openModel(name);
const opts = { backend: await wasmBackend(), output, calibration };
process.stdout.write('started');
const { resumedBlocks } = await (recipe
  ? quantizeModel(model, { ...opts, recipe: parseRecipe(recipe) })
  : calibrateModel(model, opts));
process.stdout.write(' done ' + resumedBlocks);
`,
);
const packages = fileURLToPath(new URL('../../', import.meta.url));

const STAGE = { method: 'gptq', bits: 3, groupSize: 64 };
const skip = (match: string) => ({ overrides: [{ match, skip: true }] }); // some linears of each block are enough

/** What the script is told to do. */
const WORKS = {
  'true-sequential GPTQ': { model: 'lmq-nano', recipe: { stages: [{ ...STAGE, trueSequential: true }], ...skip('*.mlp.*') } },
  GPTAQ: { model: 'lmq-nano', recipe: { stages: [{ ...STAGE, gptaq: true }], ...skip('*.mlp.*') } },
  'GPTQ of experts and the head': {
    model: 'lmq-nano-moe',
    recipe: { stages: [STAGE], include: ['lm_head'], ...skip('re:.*experts\\.[2-7].*') },
  },
  calibrate: { model: 'lmq-nano' },
};

/** Runs the script; kills it without warning after \`killAfter\` ms, or when it would remove its working folder. */
function run(
  work: string,
  output: string,
  killAfter?: number | 'at the end',
): Promise<{ killed: boolean; resumedBlocks: number; ms: number }> {
  return new Promise((resolve, reject) => {
    const child: ChildProcess = spawn(process.execPath, [script, packages, work, output, killAfter === 'at the end' ? 'yes' : ''], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    let errors = '';
    let started = 0;
    let timer: NodeJS.Timeout | undefined;
    child.stderr!.on('data', (d) => {
      errors += d;
    });
    child.stdout!.on('data', (d) => {
      text += d;
      if (started) return;
      started = Date.now();
      if (typeof killAfter === 'number') timer = setTimeout(() => child.kill('SIGKILL'), killAfter);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const done = / done (\d+)/.exec(text);
      if (!done && signal !== 'SIGKILL') reject(new Error(`exit ${code}: ${errors}`));
      else resolve({ killed: !done, resumedBlocks: Number(done?.[1] ?? 0), ms: Date.now() - started });
    });
  });
}

/** Of a file, or of the files in a folder that hold the result. */
function hashes(output: string): Record<string, string> {
  const hash = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
  if (statSync(output).isFile()) return { [output.replace(/.*\./, '')]: hash(output) };
  const weights = readdirSync(output).filter((f) => f.endsWith('.safetensors') || f === 'lmq.json');
  return Object.fromEntries(weights.map((f) => [f, hash(join(output, f))]));
}

describe('kill and resume', () => {
  const title = `${ROUNDS} rounds at random moments give the bytes of an undisturbed run`;
  it.each(Object.entries(WORKS))(`%s: ${title}`, { timeout: 60_000 + ROUNDS * 20_000 }, async (name, what) => {
    const work = JSON.stringify(what);
    const at = (file: string) => join(dir, `${file}.safetensors`);
    const { ms } = await run(work, at('undisturbed'));
    const wanted = hashes(at('undisturbed'));
    rmSync(at('undisturbed'), { recursive: true });
    const rng = createRng(Number(process.env.LMQ_KILL_SEED ?? 1));
    let kills = 0;
    let resumed = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const output = at(`round-${round}`);
      const there = () => readdirSync(dir).includes(`round-${round}.safetensors`);
      // up to three kills, each somewhere in what an undisturbed run takes, then a run to the end
      for (let i = 0; i < 3; i++) {
        const r = await run(work, output, rng.uniform() * ms);
        if (!r.killed) break;
        kills++;
        if (!there()) continue;
        // between the output's last rename and the end
        await expect(run(work, output)).rejects.toThrow('the output is already there');
        break;
      }
      if (!there()) resumed += (await run(work, output)).resumedBlocks;
      expect(hashes(output)).toEqual(wanted);
      expect(readdirSync(dir).filter((f) => f.startsWith('.') || f.includes('partial'))).toEqual([]);
      rmSync(output, { recursive: true });
    }
    console.log(`${name}: ${kills} kills, ${resumed} blocks taken over`);
    expect(kills).toBeGreaterThan(0);
  });
});

describe('killed when the output is in place', () => {
  const rtn = { stages: [{ method: 'rtn' }] };
  const works = {
    'an lmq folder': { model: 'lmq-nano', recipe: rtn },
    'a GGUF file': { model: 'lmq-nano', recipe: { ...rtn, export: 'gguf:f32' } },
    statistics: { model: 'lmq-nano' },
  };
  it.each(Object.entries(works))('%s: the next run removes the working folder, and nothing else', async (name, what) => {
    const work = JSON.stringify(what);
    const output = join(dir, name);
    const left = () => readdirSync(dir).filter((f) => f.includes(name));
    expect((await run(work, output, 'at the end')).killed).toBe(true);
    expect(left()).toEqual([`.${name}.lmq-work`, name]);
    const whole = hashes(output);
    await expect(run(work, output)).rejects.toThrow(/the output is already there.*found all of it, by a run that was killed/);
    expect(left()).toEqual([name]);
    expect(hashes(output)).toEqual(whole);
    await expect(run(work, output)).rejects.toThrow(/the output is already there.*\)\. Choose another name/);
  });

  it('unfinished work that is to replace an output stays', async () => {
    const nano = await openNano();
    const output = join(dir, 'replaced');
    const recipe = parseRecipe({ stages: [{ method: 'rtn' }] });
    const opts = { backend: nano.backend, recipe, output };
    await quantizeModel(nano, opts);
    const stop = new AbortController();
    const onProgress = (e: { phase: string }) => e.phase === 'write' && stop.abort();
    await expect(quantizeModel(nano, { ...opts, force: true, signal: stop.signal, onProgress })).rejects.toThrow();
    await expect(quantizeModel(nano, opts)).rejects.toThrow('the output is already there');
    expect((await quantizeModel(nano, { ...opts, force: true })).resumedBlocks).toBe(4);
    await nano.close();
  });
});

describe('going on fails closed', () => {
  let nano: Awaited<ReturnType<typeof openNano>>;
  beforeAll(async () => {
    nano = await openNano();
  });
  const recipe = (bits: number) => parseRecipe({ stages: [{ method: 'gptq', bits }] });
  const few = windows.slice(0, 2);

  /** Leaves unfinished work behind, as a stopped run does. */
  async function interrupted(output: string) {
    const stop = new AbortController();
    await expect(
      quantizeModel(nano, {
        backend: nano.backend,
        recipe: recipe(4),
        output,
        calibration: few,
        signal: stop.signal,
        onProgress: (e) => e.phase === 'calibrate block 1' && stop.abort(),
      }),
    ).rejects.toThrow();
  }
  const problem = (p: Promise<unknown>) => p.then(() => 'nothing was thrown').catch((e) => (isLmqError(e) ? e.message : Promise.reject(e)));

  it('names what changed: recipe, calibration text, arithmetic', async () => {
    const output = join(dir, 'changed');
    await interrupted(output);
    const now = { backend: nano.backend, recipe: recipe(4), output, calibration: few };
    expect(await problem(quantizeModel(nano, { ...now, recipe: recipe(3) }))).toContain('for another recipe');
    expect(await problem(quantizeModel(nano, { ...now, calibration: windows.slice(1, 3) }))).toContain('for another calibration text');
    expect(await problem(quantizeModel(nano, { ...now, backend: { ...nano.backend, variant: 'other' } }))).toContain(
      'for another arithmetic',
    );
    expect((await quantizeModel(nano, now)).resumedBlocks).toBe(1); // nothing was lost by being refused
  });

  it('names changed weight files', async () => {
    const output = join(dir, 'touched');
    await interrupted(output);
    const model = await openModel('lmq-nano');
    const before = await fingerprintOf(model, nano.backend.variant);
    const fingerprint = { ...before, 'weight files': '[["model.safetensors",1,2]]' };
    expect(await problem(openWorkFolder(output, { fingerprint }))).toMatch(/for another weight files.*--restart/);
    await model.close();
  });

  it('restart throws the unfinished work away', async () => {
    const output = join(dir, 'restarted');
    await interrupted(output);
    const r = await quantizeModel(nano, { backend: nano.backend, recipe: recipe(3), output, calibration: few, restart: true });
    expect(r.resumedBlocks).toBe(0);
    expect(r.layers[0]?.bits).toBe(3);
  });

  it('refuses while another process is at it, and not when that process is gone', async () => {
    const output = join(dir, 'locked');
    await interrupted(output);
    const lock = join(workPath(output), 'lock');
    writeFileSync(lock, String(process.ppid));
    const now = { backend: nano.backend, recipe: recipe(4), output, calibration: few };
    expect(await problem(quantizeModel(nano, now))).toContain('another process is writing this output');
    writeFileSync(lock, '999999999');
    utimesSync(lock, 0, 0);
    expect((await quantizeModel(nano, now)).resumedBlocks).toBe(1);
  });
});
