/**
 * Positions and windows of a model as GGUF says them: keys below the architecture's name (ggml docs/gguf.md), read by llama.cpp in
 * src/llama-model.cpp, src/llama-context.cpp and src/models/gemma3.cpp, phi3.cpp.
 * @module
 */
import type { GgufEntry } from '@lmq/checkpoints';
import { type GgufFamily, yarnMagnitude } from './_gguf-names.js';
import { unsupportedExport as unsupported } from './_gguf-unsupported.js';
import type { Architecture, RopeScaling } from './api.js';
import { ropeFrequencies } from './rope-frequencies.js';

/** llama.cpp attends to everything but in Gemma: within the window that is the same. Phi's window it reads and ignores. */
export function contextOf({ attention, context }: Architecture, { gemma, fused }: GgufFamily, notes: string[]): number {
  const window = Math.min(...attention.windows.map((w) => w ?? context));
  if (gemma || window >= context) return context;
  if (fused) {
    notes.push(`llama.cpp does not slide the attention window (${window}): its results differ from the original beyond that many tokens`);
    return context;
  }
  notes.push(`the context is given as ${window} instead of ${context} tokens, the attention window, because llama.cpp would not slide it`);
  return window;
}

type Entry = [key: string, type: GgufEntry['type'], value: unknown];

export function windowEntries({ attention, context }: Architecture, { gemma, fused }: GgufFamily, notes: string[]): Entry[] {
  const { windows } = attention;
  if (fused) return [['attention.sliding_window', 'u32', windows[0] ?? 0]]; // 0: none; without the key llama.cpp guesses
  if (!gemma) return [];
  const window = windows.find((w) => w !== null) ?? context; // without the key llama.cpp takes a model that bounds its logits
  const first = windows.indexOf(null);
  const pattern = first < 0 ? windows.length + 1 : first + 1; // every so many layers one attends to everything
  windows.forEach((w, layer) => {
    if ((w === null) !== ((layer + 1) % pattern === 0))
      unsupported('llama.cpp has windows in a regular pattern only', `layer ${layer}: ${w ?? 'none'}`);
  });
  if (pattern !== 6 && window < context)
    notes.push(`versions of llama.cpp that do not read sliding_window_pattern (${pattern}) take 6 for it`);
  return [
    ['attention.sliding_window', 'u32', window],
    ['attention.sliding_window_pattern', 'u32', pattern],
  ];
}

export function ropeEntries(a: Architecture, arch: string): Entry[] {
  const { scaling, local } = a.rope;
  const entries: Entry[] = [];
  if (local) {
    if (local.scaling) unsupported('llama.cpp does not scale the positions of layers with a window', local.scaling.type);
    if (local.theta !== 10000) entries.push(['rope.freq_base_swa', 'f32', local.theta]);
  }
  if (!scaling) return entries;
  if (scaling.type === 'llama3' || scaling.type === 'factors') {
    if (arch !== 'llama') unsupported('llama.cpp reads RoPE factors in llama only', scaling.type);
    return entries;
  }
  entries.push(['rope.scaling.type', 'string', scaling.type], ['rope.scaling.factor', 'f32', scaling.factor]);
  if (scaling.type === 'yarn') {
    if (local) unsupported('llama.cpp would scale the layers with a window too', scaling.type);
    entries.push(...yarnEntries(scaling));
  }
  return entries;
}

function yarnEntries({ factor, originalContext, betaFast, betaSlow, truncate, magnitude }: RopeScaling & { type: 'yarn' }): Entry[] {
  if (!truncate) unsupported('llama.cpp rounds the ends of the ramp of YaRN', 'truncate false');
  const entries: Entry[] = [['rope.scaling.original_context_length', 'u32', originalContext]];
  if (betaFast !== 32) entries.push(['rope.scaling.yarn_beta_fast', 'f32', betaFast]);
  if (betaSlow !== 1) entries.push(['rope.scaling.yarn_beta_slow', 'f32', betaSlow]);
  const attention = magnitude / yarnMagnitude(factor);
  if (Math.abs(attention - 1) > 1e-7) entries.push(['rope.scaling.attn_factor', 'f32', attention]);
  return entries;
}

/** What each frequency of Llama 3.1 is divided by. */
export function ropeFactors({ rope: { theta, scaling, rotary } }: Architecture): Float32Array {
  const plain = ropeFrequencies({ theta }, rotary).frequencies;
  const scaled = ropeFrequencies({ theta, scaling: scaling! }, rotary).frequencies;
  return Float32Array.from(plain, (f, i) => f / scaled[i]!);
}
