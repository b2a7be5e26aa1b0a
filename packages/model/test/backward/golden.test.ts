import type { NanoModelName } from '@lmq/nano';
import { calibration } from '@lmq/nano';
import { describe, expect, it } from 'vitest';
import { parseHfConfig } from '../../src/index.js';
import { CASES, familyCheckpoint, lcg, readCase } from '../_families.js';
import { BACKENDS, openNano, readJson } from '../_support.js';
import { modelGradients } from './_model.js';

type Summary = [squares: number, first: number, second: number, ...samples: number[]];
const golden = readJson(new URL('../golden/gradients.json', import.meta.url)) as Record<
  string,
  { loss: number; gradients: Record<string, Summary> }
>;

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
};

/** What make-gradients.py writes of a gradient. */
function summaryOf(name: string, g: Float32Array): Summary {
  const samples = [...lcg(`samples of ${name}`, 4)].map((u) => g[Math.floor((u + 0.5) * g.length)]!);
  return [dot(g, g), dot(g, lcg(`${name} 1`, g.length)), dot(g, lcg(`${name} 2`, g.length)), ...samples];
}

/**
 * The largest difference of a gradient's summary from PyTorch's, relative to the gradient's length (products with a vector of the generator,
 * whose length is √(n / 12), are put on that scale first).
 */
function differenceOf(name: string, g: Float32Array, wanted: Summary): number {
  const found = summaryOf(name, g);
  const length = Math.sqrt(wanted[0]);
  return Math.max(
    Math.abs(Math.sqrt(found[0]) / length - 1),
    ...[1, 2].map((i) => Math.abs(found[i]! - wanted[i]!) / (length * Math.sqrt(g.length / 12))),
    ...[3, 4, 5, 6].map((i) => Math.abs(found[i]! - wanted[i]!) / length),
  );
}

async function compare(
  name: string,
  opened: Parameters<typeof modelGradients>[0],
  make: (typeof BACKENDS)[string],
  ids: readonly number[],
) {
  const { loss, gradients } = await modelGradients(opened, await make(), ids);
  const { loss: wanted, gradients: all } = golden[name]!;
  expect(Math.abs(loss / wanted - 1)).toBeLessThan(1e-6);
  for (const [tensor, summary] of Object.entries(all)) {
    const found = gradients.get(tensor);
    if (!found) expect(summary[0], `${tensor}, which no token reached`).toBe(0);
    // float32 here; there float64 but for norms, softmax, angles and the loss. Largest: 8e-7 on js, 1.9e-6 on wasm
    else expect(differenceOf(tensor, found, summary), tensor).toBeLessThan(5e-6);
  }
}

describe.each(Object.entries(BACKENDS))('gradients of whole models on %s are those of PyTorch', (_, make) => {
  it.each(CASES)('%s', async (name) => {
    const own = readCase(name);
    const architecture = parseHfConfig(own.config, (tensor) => Object.hasOwn(own.tensors, tensor));
    await compare(name, { checkpoint: familyCheckpoint(own), architecture }, make, own.ids);
  });
});

it.each<NanoModelName>(['lmq-nano', 'lmq-nano-moe'])('the gradients of %s are those of PyTorch', async (name) => {
  const ids = (readJson(calibration) as number[][])[0]!.slice(0, 256);
  await compare(name, await openNano(name), BACKENDS.wasm!, ids);
});
