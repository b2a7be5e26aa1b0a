/**
 * Options of an affine grid, checked against a weight's shape.
 * @module
 */
import { checkInteger, checkOneOf, LmqError } from '@lmq/tensor';
import type { AffineOpts, Clip, ClipMethod, ClipOpts, Scheme } from './api.js';
import { type GridShape, presetRule } from './presets.js';

/**
 * Fills in defaults and checks.
 * @param rows output rows of the weight
 * @param cols input columns of the weight
 * @param op the caller's name, for messages
 * @throws LmqError `argument/option` for a bad option, `argument/shape` for an empty weight
 */
export function resolveScheme(opts: AffineOpts, rows: number, cols: number, op: string): Scheme {
  if (!(rows > 0 && cols > 0)) {
    throw new LmqError('argument/shape', 'the weight is empty', { op, expected: 'at least 1 x 1', found: `${rows} x ${cols}` });
  }
  const trits = opts.trits ?? false;
  const bits = checkInteger(opts.bits, 'bits', 1, 8, op);
  const groupSize = opts.groupSize ?? -1;
  const granularity = checkOneOf(
    opts.granularity ?? (groupSize === -1 ? 'channel' : 'group'),
    'granularity',
    ['tensor', 'channel', 'group'],
    op,
  );
  if (groupSize !== -1) checkInteger(groupSize, 'groupSize', 1, Number.MAX_SAFE_INTEGER, op);
  if ((granularity === 'group') !== (groupSize !== -1)) {
    throw new LmqError('argument/option', 'granularity and groupSize contradict each other', {
      op,
      expected: granularity === 'group' ? 'a groupSize' : 'groupSize -1',
      found: `granularity ${granularity}, groupSize ${groupSize}`,
    });
  }
  if (granularity === 'group' && cols % groupSize !== 0) {
    throw new LmqError('argument/option', 'groupSize does not divide the row', {
      op,
      expected: `a divisor of ${cols}`,
      found: groupSize,
      hint: `Use one of ${divisors(cols).join(', ')}, or -1 for one group per row: runtimes cannot read a shorter last group.`,
    });
  }
  const symmetric = opts.symmetric ?? false;
  const preset = opts.preset ?? 'gptq';
  presetRule(preset, symmetric, bits, op);
  if (trits && (bits !== 2 || preset !== 'gptq')) {
    throw new LmqError('argument/option', 'trits are three values at the ends of the range, stored in 2 bits', {
      op,
      expected: 'bits 2, and no preset',
      found: `bits ${bits}, preset ${preset}`,
    });
  }
  const clip = resolveClip(opts.clip ?? 'minmax', op);
  if (clip.method === 'mse' && clip.adjacentZeroPoints && (symmetric || trits)) {
    throw new LmqError('argument/option', 'clip.adjacentZeroPoints needs zero points to choose', {
      op,
      found: trits ? 'trits' : 'symmetric',
      hint: 'Leave it out.',
    });
  }
  const width = granularity === 'group' ? groupSize : cols;
  return {
    bits,
    symmetric,
    trits,
    granularity,
    block: [granularity === 'tensor' ? rows : 1, width],
    groups: cols / width,
    preset,
    clip,
    scaleFormat: checkOneOf(opts.scaleFormat ?? 'fp16', 'scaleFormat', ['fp32', 'fp16', 'bf16'], op),
    referenceCompat: opts.referenceCompat ?? false,
  };
}

/** The part of a scheme that scale rules see. */
export function gridShape(s: Scheme): GridShape {
  const { bits, trits, scaleFormat, referenceCompat } = s;
  return { bits, trits, maxCode: 2 ** bits - 1, half: trits ? 1 : 2 ** (bits - 1), scaleFormat, referenceCompat };
}

function resolveClip(clip: ClipMethod | ClipOpts, op: string): Clip {
  const c = typeof clip === 'string' ? ({ method: clip } as ClipOpts) : clip;
  const bad = (name: string, expected: string, found: unknown) => {
    throw new LmqError('argument/option', `clip.${name} is out of range`, { op, expected, found });
  };
  switch (c.method) {
    case 'minmax':
      return { method: 'minmax' };
    case 'mse': {
      const { norm = 2.4, grid = 100, maxShrink = 0.8, patience = Number.MAX_SAFE_INTEGER, adjacentZeroPoints = false } = c;
      checkInteger(grid, 'clip.grid', 1, 100_000, op);
      checkInteger(patience, 'clip.patience', 1, Number.MAX_SAFE_INTEGER, op);
      if (!(norm > 0 && norm <= 16)) bad('norm', '0 < norm <= 16', norm);
      if (!(maxShrink > 0 && maxShrink <= 1)) bad('maxShrink', '0 < maxShrink <= 1', maxShrink);
      if (typeof adjacentZeroPoints !== 'boolean') bad('adjacentZeroPoints', 'true or false', adjacentZeroPoints);
      return { method: 'mse', norm, grid, maxShrink, patience, adjacentZeroPoints };
    }
    case 'imatrix': {
      const { norm = 3, grid = 20, maxShrink = 0.95, patience = 5 } = c;
      checkInteger(grid, 'clip.grid', 1, 100_000, op);
      checkInteger(patience, 'clip.patience', 0, Number.MAX_SAFE_INTEGER, op);
      if (!(norm > 0 && norm <= 16)) bad('norm', '0 < norm <= 16', norm);
      if (!(maxShrink >= 0 && maxShrink <= 1)) bad('maxShrink', '0 <= maxShrink <= 1', maxShrink);
      return { method: 'imatrix', norm, grid, maxShrink, patience: patience || Number.MAX_SAFE_INTEGER };
    }
    case 'percentile': {
      const { percentile = 99.9 } = c;
      if (!(percentile > 0 && percentile <= 100)) bad('percentile', '0 < percentile <= 100', percentile);
      return { method: 'percentile', percentile };
    }
    case 'kl':
      return { method: 'kl', bins: checkInteger(c.bins ?? 2048, 'clip.bins', 2, 2 ** 20, op) };
    default:
      throw new LmqError('argument/option', 'unknown clip method', {
        op,
        expected: 'minmax, mse, imatrix, percentile, kl',
        found: typeof clip === 'string' ? clip : (clip as { method?: unknown }).method,
      });
  }
}

/** Usable group sizes: powers of two first in mind, so small odd ones are left out when there are many. */
function divisors(n: number): number[] {
  const all: number[] = [];
  for (let d = 1; d <= Math.min(n, 4096); d++) if (n % d === 0) all.push(d);
  const usual = all.filter((d) => d >= 16 && d <= 1024);
  return (usual.length ? usual : all).slice(-8);
}
