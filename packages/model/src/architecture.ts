/**
 * Puts an {@link Architecture} together from sizes and a naming scheme, and knows the shape of every weight in it. The two configuration
 * readers share it: they differ in field names and in where a role's tensor is found.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import type { Architecture, Role, Site } from './api.js';

/** An architecture before its tensors are named. */
export type Sizes = Omit<Architecture, 'tensors' | 'sites' | 'warnings'>;

/** Where a checkpoint keeps things. */
export interface Naming {
  embedding: string;
  finalNorm: string;
  head: string;
  /** By layer; those that a family lacks are absent. */
  norms: Record<'attentionNorm' | 'mlpNorm', (layer: number) => string> &
    Partial<Record<'attentionPostNorm' | 'mlpPostNorm' | 'queryNorm' | 'keyNorm', (layer: number) => string>>;
  /** `from`: first row of the role when the tensor holds more than it, leading axes merged. */
  linear(layer: number, role: Role, expert?: number): { tensor: string; bias?: string; from?: number };
}

const ATTENTION = { q: 'q_proj', k: 'k_proj', v: 'v_proj', o: 'o_proj' } as const;
const DENSE = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' } as const;
const EXPERT = { gate: 'w1', up: 'w3', down: 'w2' } as const;
const MLP_ROLES = ['gate', 'up', 'down'] as const;

/**
 * Shape `[out, in]` of a role's weight.
 * @param a sizes of the model
 */
export function roleShape(a: Sizes, role: Role | 'head'): [out: number, in_: number] {
  const ff = a.mlp.intermediate;
  if (role === 'q') return [a.heads * a.headDim, a.hidden];
  if (role === 'k' || role === 'v') return [a.kvHeads * a.headDim, a.hidden];
  if (role === 'o') return [a.hidden, a.heads * a.headDim];
  if (role === 'down') return [a.hidden, ff];
  if (role === 'router') return [a.moe?.experts ?? 0, a.hidden];
  if (role === 'head') return [a.vocab, a.hidden];
  return [ff, a.hidden];
}

/** Shape `[out, in]` of a site's weight. */
export function siteShape(a: Architecture, site: Site): [out: number, in_: number] {
  return roleShape(a, site.role);
}

/** Hugging Face module name of a linear. */
export function moduleName(layer: number, role: Role, expert?: number): string {
  const at = `model.layers.${layer}`;
  if (role === 'router') return `${at}.block_sparse_moe.gate`;
  if (role === 'gate' || role === 'up' || role === 'down') {
    return expert === undefined ? `${at}.mlp.${DENSE[role]}` : `${at}.block_sparse_moe.experts.${expert}.${EXPERT[role]}`;
  }
  return `${at}.self_attn.${ATTENTION[role]}`;
}

/**
 * Names every tensor and checks that the checkpoint has it.
 * @param hasTensor whether the checkpoint has a tensor of that name
 * @throws LmqError `model/missing` for the first that it does not have
 */
export function buildArchitecture(
  sizes: Sizes,
  names: Naming,
  hasTensor: (name: string) => boolean,
  warnings: string[],
  op: string,
): Architecture {
  const need = (tensor: string): string => {
    if (hasTensor(tensor)) return tensor;
    throw new LmqError('model/missing', 'the checkpoint lacks a tensor that the configuration asks for', {
      op,
      tensor,
      hint: 'Check that every file of the model is there and that the configuration belongs to it.',
    });
  };
  const sites: Site[] = [];
  const add = (layer: number, role: Role, input: string, expert?: number) => {
    const { tensor, bias, from } = names.linear(layer, role, expert);
    const site: Site = { name: moduleName(layer, role, expert), layer, role, tensor: need(tensor), input: `layers.${layer}.${input}` };
    if (expert !== undefined) site.expert = expert;
    if (from !== undefined) site.slice = [from, from + roleShape(sizes, role)[0]];
    if (bias !== undefined) site.bias = need(bias);
    sites.push(site);
  };
  const tensors: Architecture['tensors'] = {
    embedding: need(names.embedding),
    finalNorm: need(names.finalNorm),
    head: need(names.head),
    attentionNorm: [],
    mlpNorm: [],
  };
  for (let l = 0; l < sizes.layers; l++) {
    for (const [norm, nameOf] of Object.entries(names.norms)) {
      const key = norm as keyof Naming['norms'];
      tensors[key] = [...(tensors[key] ?? []), need(nameOf(l))];
    }
    for (const role of ['q', 'k', 'v'] as const) add(l, role, 'qkv');
    add(l, 'o', 'o');
    if (!sizes.moe) {
      for (const role of MLP_ROLES) add(l, role, role === 'down' ? 'down' : 'mlp');
      continue;
    }
    add(l, 'router', 'moe');
    for (let e = 0; e < sizes.moe.experts; e++) {
      for (const role of MLP_ROLES) add(l, role, `experts.${e}.${role === 'down' ? 'down' : 'mlp'}`, e);
    }
  }
  return { ...sizes, tensors, sites, warnings };
}
