// GPTQ and AWQ checkpoints in memory: the golden ones, and any others from a list of tensors.
import { readFileSync } from 'node:fs';
import type { SafetensorsFile, TensorToWrite } from '../src/api.js';
import { openSafetensors } from '../src/safetensors.js';
import { writeSafetensors } from '../src/safetensors-write.js';
import { memorySink } from '../src/sources.js';
import { source } from './_files.js';

export interface Stored {
  dtype: string;
  shape: number[];
  data: Uint8Array;
}

export interface GoldenCase {
  format: 'gptq' | 'awq';
  version?: 'v1' | 'v2';
  bits: number;
  out: number;
  in: number;
  group: number;
  sym: boolean;
  actOrder: boolean;
  tensors: Record<string, Stored>;
  /** FNV-1a of the weights' fp16 bits, [out, in]. */
  weight: string;
}

type Raw = Omit<GoldenCase, 'tensors'> & { tensors: Record<string, { dtype: string; shape: number[]; data: string }> };

/** Tensors packed and decoded by AutoGPTQ, GPTQModel and AutoAWQ; see golden/quantized.py. */
export const goldenCases: readonly GoldenCase[] = (
  JSON.parse(readFileSync(new URL('./golden/quantized.json', import.meta.url), 'utf8')) as Raw[]
).map((c) => ({
  ...c,
  tensors: Object.fromEntries(
    Object.entries(c.tensors).map(([part, t]) => [part, { ...t, data: new Uint8Array(Buffer.from(t.data, 'base64')) }]),
  ),
}));

/** The golden case with these facts. */
export function goldenCase(facts: Partial<GoldenCase>): GoldenCase {
  return goldenCases.find((c) => Object.entries(facts).every(([key, value]) => c[key as keyof GoldenCase] === value))!;
}

/** The configuration of a golden case. */
export function configOf(c: GoldenCase): Record<string, unknown> {
  if (c.format === 'awq') return { quant_method: 'awq', bits: 4, group_size: c.group, zero_point: true, version: 'GEMM' };
  const format = c.version === 'v1' ? 'gptq' : 'gptq_v2';
  return { quant_method: 'gptq', bits: c.bits, group_size: c.group, sym: c.sym, desc_act: c.actOrder, checkpoint_format: format };
}

/** Parts of a linear under the name of a module. */
export function under(module: string, parts: Record<string, Stored>): Record<string, Stored> {
  return Object.fromEntries(Object.entries(parts).map(([part, t]) => [`${module}.${part}`, t]));
}

/** A safetensors file. */
export async function bytesOfFile(tensors: Record<string, Stored>): Promise<Uint8Array> {
  const sink = memorySink();
  await writeSafetensors(
    sink,
    Object.entries(tensors).map(([n, t]): TensorToWrite => ({ name: n, shape: t.shape, dtype: t.dtype, bytes: () => t.data })),
  );
  return sink.bytes();
}

export async function safetensorsOf(tensors: Record<string, Stored>, name = 'model.safetensors'): Promise<SafetensorsFile> {
  return openSafetensors(source(await bytesOfFile(tensors), name));
}

/** What a writer gives, as stored tensors by name. */
export async function storedOf(tensors: readonly TensorToWrite[]): Promise<Record<string, Stored>> {
  const out: Record<string, Stored> = {};
  for (const t of tensors) out[t.name] = { dtype: t.dtype, shape: t.shape, data: new Uint8Array(await t.bytes()) };
  return out;
}
