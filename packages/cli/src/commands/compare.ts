/**
 * `lmq compare`: methods and bit widths side by side, in memory. The table people come for.
 * @module
 */
import { compare, perplexity } from '@lmq/eval';
import { loadModel, type Model } from '@lmq/model';
import { collectFisher, type Fisher, modelSize, overlay, planSites, quantizeBlocks, usesFisher } from '@lmq/pipeline';
import { type OpenModel, openModel } from '@lmq/pipeline/node';
import type { Backend, CompressedTensor } from '@lmq/tensor';
import type { Command } from 'commander';
import { evaluationTokens } from '../calibration.js';
import { addNonFinite, type NonFiniteFlags, watchNonFinite } from '../non-finite.js';
import {
  addBackend,
  addCalibrationOptions,
  addStageOptions,
  addStatistics,
  type BackendFlags,
  collect,
  integer,
  listOf,
  makeBackend,
  recipeOf,
  type StageFlags,
} from '../options.js';
import { calibrationOf } from '../recipe-options.js';
import type { Context } from '../run.js';
import { formatBytes, table } from '../terminal.js';
import { DEFAULT_CONTEXT, type EvalRow } from './eval.js';

interface Flags extends StageFlags, BackendFlags, NonFiniteFlags {
  methods: string[];
  bits: number[];
  text?: string;
  context?: number;
  windows?: number;
  calibration?: string;
  statistics?: string;
  fisher?: string;
}

interface CompareRow extends EvalRow {
  method: string;
  bits?: number;
  /** Seconds of quantizing, calibration included. */
  quantizeSeconds: number;
  options?: Record<string, unknown>;
}

export function addCompare(lmq: Command, cli: Context): void {
  const { terminal, signal } = cli;
  const command = lmq
    .command('compare <model>')
    .description('quantize with several methods and bit widths, and measure each against the original')
    .option('--methods <names>', 'separated by commas', listOf(String), ['rtn', 'gptq'])
    .option('--bits <list>', 'separated by commas', listOf(integer), [4])
    .option('--text <file>', 'text to evaluate on (built-in models bring their own)')
    .option('--context <n>', `tokens per window (default: ${DEFAULT_CONTEXT}, or the context if smaller)`, integer)
    .option('--windows <n>', 'only the first n windows', integer)
    .option('--override <name:option=value,…>', 'other options for matching linears; may be repeated', collect)
    .option('--include <name>', 'lm_head: quantize the output head too; may be repeated', collect)
    .option('--skip <name>', 'leave matching linears as they are; may be repeated', collect);
  addStageOptions(command);
  addCalibrationOptions(command);
  addStatistics(command);
  addNonFinite(command);
  addBackend(command).action(async (name: string, flags: Flags) => {
    const original = await openModel(name);
    const watch = watchNonFinite(flags, terminal);
    const opened = { ...original, checkpoint: watch.guard(original.checkpoint) };
    try {
      for (const w of opened.warnings) terminal.say(`warning: ${w}`);
      const backend = await makeBackend(flags, cli);
      const recipes = flags.methods.flatMap((method) =>
        flags.bits.map((bits) => ({ method, bits, recipe: recipeOf(method, bits, flags, 'lmq') })),
      );
      const tokens = await evaluationTokens(opened, flags.text);
      const source = await calibrationOf(
        original, // statistics are of weights as they are stored
        recipes.map((r) => r.recipe),
        flags,
        cli,
      );
      const context = flags.context ?? Math.min(DEFAULT_CONTEXT, opened.architecture.context);
      const evalOpts = { context, windows: flags.windows, signal, onProgress: terminal.progress };

      const base = await load(opened, new Map(), backend, signal);
      try {
        const start = performance.now();
        const measured = await perplexity(base, tokens, evalOpts);
        const rows: CompareRow[] = [
          {
            method: 'original',
            ...pickSize(opened, new Map()),
            perplexity: measured.perplexity,
            tokens: measured.tokens,
            context,
            kl: 0,
            top1: 1,
            quantizeSeconds: 0,
            seconds: (performance.now() - start) / 1000,
            ...watch.facts(),
          },
        ];
        let { fisher }: { fisher?: Fisher } = source;
        for (const { method, bits, recipe } of recipes) {
          const began = performance.now();
          const uses = planSites(opened.checkpoint, opened.architecture, recipe).some((p) => usesFisher(p.stage));
          if (uses) fisher ??= await collectFisher({ ...opened, backend, ...source, signal, onProgress: terminal.progress });
          const weights = new Map<string, CompressedTensor>();
          for await (const block of quantizeBlocks({
            ...opened,
            backend,
            recipe,
            ...source,
            fisher: uses ? fisher : undefined,
            signal,
            onProgress: (e) => terminal.progress({ ...e, phase: `${method} ${bits}-bit: ${e.phase}` }),
          })) {
            for (const [tensor, t] of block.weights) weights.set(tensor, t);
          }
          const quantizeSeconds = (performance.now() - began) / 1000;
          const model = await load(opened, weights, backend, signal);
          try {
            const c = await compare(model, base, tokens, evalOpts);
            rows.push({
              method,
              bits,
              ...pickSize(opened, weights),
              perplexity: c.perplexity,
              tokens: c.tokens,
              context,
              kl: c.kl,
              top1: c.top1,
              quantizeSeconds,
              seconds: (performance.now() - began) / 1000,
              options: { ...recipe.stages[0] },
            });
          } finally {
            model.dispose();
          }
        }
        terminal.finish();
        if (terminal.json) return terminal.result(rows);
        terminal.out(
          table(
            ['method', 'bits/weight', 'size', 'perplexity', 'KL', 'top-1', 'seconds'],
            rows.map((r) => [
              r.bits === undefined ? r.method : `${r.method} ${r.bits}-bit`,
              r.bitsPerWeight.toFixed(3),
              formatBytes(r.bytes),
              r.perplexity.toFixed(3),
              r.kl!.toFixed(4),
              `${(100 * r.top1!).toFixed(1)} %`,
              r.quantizeSeconds.toFixed(1),
            ]),
          ),
        );
        terminal.out(
          `\n${measured.tokens} tokens in windows of ${context}; KL(original ‖ quantized) in nats per token; seconds to quantize, calibration included; backend ${backend.variant}\n`,
        );
      } finally {
        base.dispose();
      }
    } finally {
      await opened.close();
    }
  });
}

function load(opened: OpenModel, weights: Map<string, CompressedTensor>, backend: Backend, signal: AbortSignal): Promise<Model> {
  return loadModel({ checkpoint: overlay(opened.checkpoint, weights), architecture: opened.architecture, backend, signal });
}

function pickSize(opened: OpenModel, weights: Map<string, CompressedTensor>) {
  const { bytes, bitsPerWeight, fileBitsPerWeight } = modelSize(overlay(opened.checkpoint, weights), opened.architecture);
  return { bytes, bitsPerWeight, fileBitsPerWeight };
}
