/**
 * `lmq calibrate`: what a sweep over bits needs of the calibration text, collected once.
 * @module
 */
import { basename } from 'node:path';
import { CALIBRATION_FORMATS, type CalibrationFormat, calibrateModel, openModel } from '@lmq/pipeline/node';
import { type Command, Option } from 'commander';
import { calibrationWindows } from '../calibration.js';
import { addNonFinite, type NonFiniteFlags, watchNonFinite } from '../non-finite.js';
import { addBackend, addCalibrationOptions, type BackendFlags, integer, makeBackend, recipeOf, type StageFlags } from '../options.js';
import type { Context } from '../run.js';
import { formatBytes, formatSeconds } from '../terminal.js';

interface Flags extends BackendFlags, NonFiniteFlags, Pick<StageFlags, 'samples' | 'seqLen' | 'seed' | 'minTokens'> {
  output: string;
  export: CalibrationFormat;
  calibration?: string;
  force?: boolean;
  restart?: boolean;
}

export function addCalibrate(lmq: Command, cli: Context): void {
  const { terminal, signal } = cli;
  const command = lmq
    .command('calibrate <model>')
    .description(
      'save statistics of the original model, for quantize and compare: of its linears’ inputs (--statistics), or gradients (--fisher)',
    )
    .requiredOption('-o, --output <file>', 'file to write')
    .addOption(
      new Option(
        '--export <format>',
        'statistics for GPTQ; fisher: squared gradients for SqueezeLLM; or an importance matrix, for gguf exports and llama.cpp (before 2025-07: imatrix-dat)',
      )
        .choices(CALIBRATION_FORMATS)
        .default('statistics'),
    )
    .option('--min-tokens <n>', 'experts that fewer tokens reach take all (default: 0.5 % of an even share; 0: never)', integer)
    .option('--force', 'replace an existing output')
    .option('--restart', 'throw away what an interrupted run has left, instead of going on from it');
  addCalibrationOptions(command);
  addNonFinite(command);
  addBackend(command).action(async (name: string, flags: Flags) => {
    const model = await openModel(name);
    try {
      for (const w of model.warnings) terminal.say(`warning: ${w}`);
      const { calibration: spec } = recipeOf('none', undefined, flags, 'lmq');
      const watch = watchNonFinite(flags, terminal);
      const report = await calibrateModel(model, {
        backend: await makeBackend(flags, cli),
        calibration: await calibrationWindows(model, spec, flags.calibration),
        minTokens: flags.minTokens,
        output: flags.output,
        format: flags.export,
        dataset: flags.calibration && basename(flags.calibration),
        force: flags.force,
        restart: flags.restart,
        nonFinite: flags.nonFinite,
        onNonFinite: watch.onFound,
        signal,
        onProgress: terminal.progress,
      });
      terminal.finish();
      if (report.resumedBlocks) terminal.say(`went on after ${report.resumedBlocks} blocks that an interrupted run had finished`);
      const { user, system } = process.cpuUsage();
      const result = { ...report, ...watch.facts(), cpuSeconds: (user + system) / 1e6, peakRss: process.resourceUsage().maxRSS * 1024 };
      if (terminal.json) return terminal.result(result);
      if (report.starved.length) terminal.say(`too few tokens reached ${report.starved.join(', ')}: their sums are over all tokens`);
      if (report.unreached.length) terminal.say(`no token reached ${report.unreached.join(', ')}`);
      terminal.out(
        `${report.output}: ${formatBytes(report.bytes)} · ${report.inputs} ${flags.export === 'fisher' ? 'linears' : 'inputs'} · ${report.tokens} tokens · ${formatSeconds(report.seconds)} · peak memory ${formatBytes(result.peakRss)}\n`,
      );
    } finally {
      await model.close();
    }
  });
}
