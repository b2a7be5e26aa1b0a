/**
 * `lmq eval`: how well a model predicts a text, and how far it is from another model.
 * @module
 */
import type { NonFiniteFound } from '@lmq/checkpoints';
import { compare, type PasskeyDocument, passkey, perplexity, type WindowOpts } from '@lmq/eval';
import { loadModel } from '@lmq/model';
import { modelSize } from '@lmq/pipeline';
import { openModel, readJson } from '@lmq/pipeline/node';
import { type Activations, LmqError } from '@lmq/tensor';
import type { Command } from 'commander';
import { evaluationTokens } from '../calibration.js';
import { addNonFinite, type NonFiniteFlags, watchNonFinite } from '../non-finite.js';
import { addActivations, addBackend, type BackendFlags, integer, makeBackend, number } from '../options.js';
import type { Context } from '../run.js';
import { formatBytes, formatSeconds } from '../terminal.js';

interface Flags extends BackendFlags, NonFiniteFlags {
  text?: string;
  context?: number;
  windows?: number;
  bos?: boolean;
  against?: string;
  passkey?: string;
  maxPerplexity?: number;
  maxKl?: number;
  activations: Activations;
}

/** One evaluated model, as `--json` prints it. */
export interface EvalRow {
  perplexity: number;
  tokens: number;
  context: number;
  seconds: number;
  kl?: number;
  top1?: number;
  passkey?: number;
  outlierColumns?: number;
  bitsPerWeight: number;
  fileBitsPerWeight: number;
  bytes: number;
  nonFinite?: NonFiniteFound[];
}

export const DEFAULT_CONTEXT = 512;

export function addEval(lmq: Command, cli: Context): void {
  const { terminal, signal } = cli;
  const command = lmq
    .command('eval <model>')
    .description('perplexity on a text; with --against, KL divergence and top-1 agreement')
    .option('--text <file>', 'text to evaluate on: .txt, .jsonl, or .json with arrays of token ids (built-in models bring their own)')
    .option('--context <n>', `tokens per window (default: ${DEFAULT_CONTEXT}, or the context if smaller)`, integer)
    .option('--windows <n>', 'only the first n windows', integer)
    .option('--bos', 'begin each window with the beginning-of-text token')
    .option('--against <model>', 'the original, to measure the distance from')
    .option('--passkey <file>', 'documents to find a key in, as JSON')
    .option('--max-perplexity <x>', 'exit with code 4 when the perplexity is higher', number)
    .option('--max-kl <x>', 'exit with code 4 when the KL divergence is higher', number);
  addActivations(command);
  addNonFinite(command);
  addBackend(command).action(async (name: string, flags: Flags) => {
    if (flags.maxKl !== undefined && !flags.against) {
      throw new LmqError('argument/option', '--max-kl needs --against', { op: 'eval' });
    }
    const opened = await openModel(name);
    const base = flags.against ? await openModel(flags.against) : undefined;
    try {
      for (const w of opened.warnings) terminal.say(`warning: ${w}`);
      const tokens = await evaluationTokens(opened, flags.text);
      const documents = flags.passkey ? await readDocuments(flags.passkey) : undefined;
      const backend = await makeBackend(flags, cli);
      const { checkpoint, architecture, tokenizer } = opened;
      const shared = { backend, signal, onProgress: terminal.progress };
      const watch = watchNonFinite(flags, terminal);
      const load = (m: typeof opened, activations?: Activations) =>
        loadModel({ checkpoint: watch.guard(m.checkpoint), architecture: m.architecture, activations, ...shared });
      const model = await load(opened, flags.activations);
      const baseModel = base && (await load(base));
      try {
        const opts: WindowOpts = {
          context: flags.context ?? Math.min(DEFAULT_CONTEXT, architecture.context),
          windows: flags.windows,
          bos: flags.bos ? tokenizer?.bos : undefined,
          signal,
          onProgress: terminal.progress,
        };
        const start = performance.now();
        const against = baseModel && (await compare(model, baseModel, tokens, opts));
        const measured = against ?? (await perplexity(model, tokens, opts));
        const { bytes, bitsPerWeight, fileBitsPerWeight } = modelSize(checkpoint, architecture);
        const row: EvalRow = {
          perplexity: measured.perplexity,
          tokens: measured.tokens,
          context: measured.context,
          ...(against && { kl: against.kl, top1: against.top1 }),
          ...(documents && { passkey: (await passkey(model, documents, { signal, onProgress: terminal.progress })).accuracy }),
          ...(model.outliers && { outlierColumns: model.outliers.columns / model.outliers.of }),
          bitsPerWeight,
          fileBitsPerWeight,
          bytes,
          seconds: (performance.now() - start) / 1000,
          ...watch.facts(),
        };
        terminal.finish();
        if (terminal.json) terminal.result(row);
        else terminal.out(describe(row));
        gate('perplexity', row.perplexity, flags.maxPerplexity);
        gate('KL divergence', row.kl, flags.maxKl);
      } finally {
        model.dispose();
        baseModel?.dispose();
      }
    } finally {
      await opened.close();
      await base?.close();
    }
  });
}

/** Passkey documents: a JSON array of them, or an object that holds it as `documents` or `prompts`. */
async function readDocuments(file: string): Promise<PasskeyDocument[]> {
  const value = (await readJson(file)) as { documents?: unknown; prompts?: unknown } | null;
  const documents = Array.isArray(value) ? value : (value?.documents ?? value?.prompts);
  const ok = Array.isArray(documents) && documents.every((d) => Array.isArray(d?.ids) && Array.isArray(d?.answer_ids));
  if (!ok) throw new LmqError('file/format', 'no passkey documents', { file, expected: '[{ "ids": […], "answer_ids": […] }, …]' });
  return documents as PasskeyDocument[];
}

function describe(r: EvalRow): string {
  return [
    `perplexity      ${r.perplexity.toFixed(4)}   (${r.tokens} tokens, windows of ${r.context})`,
    ...(r.kl === undefined ? [] : [`KL to original  ${r.kl.toFixed(5)} nats per token`, `top-1 agreement ${(100 * r.top1!).toFixed(2)} %`]),
    ...(r.passkey === undefined ? [] : [`passkey         ${(100 * r.passkey).toFixed(1)} %`]),
    ...(r.outlierColumns === undefined
      ? []
      : [`outlier columns ${(100 * r.outlierColumns).toFixed(2)} %   (of inputs, multiplied in float32)`]),
    `size            ${formatBytes(r.bytes)}   (${r.bitsPerWeight.toFixed(3)} bits per weight in linears, ${r.fileBitsPerWeight.toFixed(3)} over all)`,
    `time            ${formatSeconds(r.seconds)}`,
    '',
  ].join('\n');
}

function gate(what: string, value: number | undefined, limit: number | undefined): void {
  if (limit === undefined || value === undefined || value <= limit) return;
  throw new LmqError('quality/gate', `the ${what} is above the bound`, { op: 'eval', expected: `at most ${limit}`, found: value });
}
