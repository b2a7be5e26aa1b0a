/**
 * Checks of a model as a whole, by headers and configuration.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { type Architecture, ROPE_FACTORS, siteShape, type Tokenizer } from '@lmq/model';
import { printable } from '@lmq/tensor';
import { fileTypeName } from '../_gguf-file-type.js';
import { error, type Finding, warning } from './finding.js';

/** What is known of a model; `architecture` names every tensor that it needs, whether it is there or not. */
export interface Subject {
  checkpoint: Checkpoint;
  architecture: Architecture;
  tokenizer?: Tokenizer;
  /** `quantization_config`, where there is one. */
  quantization?: Record<string, unknown>;
}

export const MODEL_CHECKS: readonly ((of: Subject) => Iterable<Finding>)[] = [
  missing,
  strangers,
  shapes,
  vocabulary,
  fileType,
  labelsOfFolder,
  leftOut,
];

/** Every tensor of an architecture and the shape it has as a matrix; rows are absent where the tensor holds more than one linear. */
function* neededTensors(a: Architecture): Iterable<[name: string, rows: number | undefined, cols: number]> {
  const { tensors, hidden, vocab, headDim } = a;
  yield [tensors.embedding, vocab, hidden];
  if (tensors.head !== tensors.embedding) yield [tensors.head, vocab, hidden];
  yield [tensors.finalNorm, 1, hidden];
  const wide = [tensors.attentionNorm, tensors.mlpNorm, tensors.attentionPostNorm ?? [], tensors.mlpPostNorm ?? []];
  for (const name of wide.flat()) yield [name, 1, hidden];
  for (const name of [tensors.queryNorm ?? [], tensors.keyNorm ?? []].flat()) yield [name, 1, headDim];
  for (const site of a.sites) {
    const [out, inputs] = siteShape(a, site);
    yield [site.tensor, site.slice ? undefined : out, inputs];
    if (site.bias !== undefined) yield [site.bias, 1, out];
  }
}

function* missing({ checkpoint, architecture }: Subject): Iterable<Finding> {
  const names = new Set([...neededTensors(architecture)].map(([name]) => name));
  for (const tensor of names)
    if (!checkpoint.tensors.has(tensor)) yield error('missing', 'the checkpoint lacks a tensor that the architecture needs', { tensor });
}

function* strangers({ checkpoint, architecture }: Subject): Iterable<Finding> {
  const names = new Set([...neededTensors(architecture)].map(([name]) => name));
  for (const { name: tensor, file } of checkpoint.tensors.values()) {
    if (names.has(tensor) || tensor === ROPE_FACTORS || (architecture.tied && /^(lm_head|output)\.weight$/.test(tensor))) continue; // `head` looks at that one
    yield warning('strangers', 'the architecture has no use for this tensor', { tensor, file });
  }
}

function* shapes({ checkpoint, architecture }: Subject): Iterable<Finding> {
  const ends = new Map<string, number>();
  for (const { tensor, slice } of architecture.sites) if (slice) ends.set(tensor, Math.max(ends.get(tensor) ?? 0, slice[1]));
  const seen = new Set<string>();
  for (const [tensor, rows = ends.get(tensor)!, cols] of neededTensors(architecture)) {
    const info = checkpoint.tensors.get(tensor);
    if (!info || seen.has(tensor)) continue;
    seen.add(tensor);
    const { shape, file } = info;
    const [foundRows, foundCols] = [shape.slice(0, -1).reduce((a, b) => a * b, 1), shape.at(-1) ?? 1];
    if (foundRows === rows && foundCols === cols) continue;
    yield error('shapes', `the configuration implies [${rows}, ${cols}], the tensor is [${shape.join(', ')}]`, { tensor, file });
  }
}

function* vocabulary({ checkpoint, architecture, tokenizer }: Subject): Iterable<Finding> {
  const { vocab } = architecture;
  if (!tokenizer) return;
  if (tokenizer.size > vocab) yield error('vocabulary', `the tokenizer has ${tokenizer.size} tokens, the embeddings have ${vocab} rows`);
  for (const id of [tokenizer.bos, ...tokenizer.eos])
    if (id !== undefined && id >= vocab)
      yield error('vocabulary', `the special token ${id} is no row of the embeddings, which have ${vocab}`);
  const tokens = checkpoint.metadata.get('tokenizer.ggml.tokens');
  if (Array.isArray(tokens) && tokens.length !== vocab)
    yield warning('vocabulary', `tokenizer.ggml.tokens has ${tokens.length} entries, the embeddings have ${vocab} rows`);
}

/** GGUF names the type of its matrices, which some tools show without looking. */
function* fileType({ checkpoint }: Subject): Iterable<Finding> {
  const says = fileTypeName(checkpoint);
  if (says === undefined || says.startsWith('IQ')) return; // these mixtures are made of types of other names
  const types = new Set([...checkpoint.tensors.values()].map((t) => FLOATS.get(t.format) ?? t.format));
  if ([...types].some((type) => says === type || says.startsWith(`${type}_`))) return;
  yield warning('labels', `general.file_type says ${says}, and no tensor is ${says.replace(/_(S|M|L|MOE)$/, '')}`);
}

const FLOATS = new Map([
  ['fp32', 'F32'],
  ['fp16', 'F16'],
  ['bf16', 'BF16'],
]);

/** A folder may say twice how it was quantized; tools differ in which they read. */
function* labelsOfFolder({ quantization }: Subject): Iterable<Finding> {
  if (!quantization) return;
  for (const [alias, name] of [
    ['format', 'checkpoint_format'],
    ['method', 'quant_method'],
  ] as const) {
    const [a, b] = [quantization[alias], quantization[name]];
    if (a !== undefined && b !== undefined && a !== b)
      yield error('labels', `the quantization's ${alias} is ${printable(a)}, its ${name} is ${printable(b)}`, { file: 'config.json' });
  }
}

/** Linears stored as floats that the configuration takes for quantized: runtimes look for codes and find none. */
function* leftOut({ checkpoint, architecture, quantization = {} }: Subject): Iterable<Finding> {
  const named = listOfNames(checkpoint, quantization);
  if (!named) return;
  const { list, key } = named;
  for (const { name, tensor, role } of architecture.sites) {
    const info = checkpoint.tensors.get(tensor);
    const module = tensor.replace(/\.weight$/, '');
    if (!info || !FLOATS.has(info.format) || role === 'router' || list.some((entry) => covers(entry, module))) continue;
    yield warning('labels', `${name} is stored as floats, and ${key} does not name it`, { tensor, file: 'config.json' });
  }
}

/** The modules that a configuration says are not quantized, where it takes all others for quantized. Patterns are not run. */
function listOfNames({ format }: Checkpoint, of: Record<string, unknown>): { list: string[]; key: string } | undefined {
  const groups = Object.values((of.config_groups ?? {}) as Record<string, { targets?: unknown } | null>);
  const all = format === 'compressed-tensors' && groups.some((g) => Array.isArray(g?.targets) && g.targets.includes('Linear'));
  const key = all ? 'ignore' : format === 'bitsandbytes' ? 'llm_int8_skip_modules' : undefined;
  const list = key === undefined ? undefined : (of[key] ?? []);
  if (!Array.isArray(list) || list.some((entry) => String(entry).startsWith('re:'))) return undefined;
  return { list: list.map(String), key: key! };
}

/** By its full name, that of a module around it, or its end. */
const covers = (entry: string, module: string) => module === entry || module.startsWith(`${entry}.`) || module.endsWith(`.${entry}`);
