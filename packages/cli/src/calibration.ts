/**
 * Calibration windows from the `--calibration` file, or from the built-in model's own.
 * @module
 */
import { type CalibrationSpec, drawWindows } from '@lmq/pipeline';
import { type OpenModel, readTokens } from '@lmq/pipeline/node';
import { createRng, LmqError } from '@lmq/tensor';

const DEFAULT_SEQ_LEN = 2048;

/** @throws LmqError `calibration/short` without a file, or with one that is too short */
export async function calibrationWindows(model: OpenModel, spec: CalibrationSpec, file: string | undefined): Promise<ArrayLike<number>[]> {
  const path = file ?? model.builtIn?.calibration;
  if (!path) {
    throw new LmqError('calibration/short', 'this method needs text to calibrate on', {
      hint: 'Give a text that is like what the model will read: --calibration file.txt. Never the text you evaluate on.',
    });
  }
  const { context, vocab } = model.architecture;
  const tokens = await readTokens(path, model.tokenizer, vocab);
  if ('windows' in tokens) return pick(tokens.windows, spec, context);
  const seqLen = spec.seqLen ?? Math.min(DEFAULT_SEQ_LEN, context);
  if (seqLen > context) {
    throw new LmqError('argument/option', 'seqLen is longer than the context of the model', {
      op: 'calibration',
      expected: `at most ${context}`,
      found: seqLen,
    });
  }
  return drawWindows(tokens.ids, { ...spec, seqLen });
}

/** Ready-made windows: used as they are, the first `seqLen` tokens of `samples` of them. */
function pick(windows: number[][], { samples, seqLen, seed }: CalibrationSpec, context: number): number[][] {
  const limit = Math.min(seqLen ?? context, context);
  const cut = windows.map((w) => (w.length > limit ? w.slice(0, limit) : w));
  if (samples >= cut.length) return cut;
  const chosen = createRng(seed)
    .shuffle(cut.map((_, i) => i))
    .slice(0, samples);
  return chosen.sort((a, b) => a - b).map((i) => cut[i]!);
}

/** Tokens to evaluate on, of a file or the built-in model's validation text: one stream, or ready-made windows. */
export async function evaluationTokens(model: OpenModel, file: string | undefined): Promise<number[] | number[][]> {
  const path = file ?? model.builtIn?.validation;
  if (!path) throw new LmqError('argument/option', 'no text to evaluate on', { op: 'eval', hint: 'Give one with --text file.txt.' });
  const tokens = await readTokens(path, model.tokenizer, model.architecture.vocab);
  return 'ids' in tokens ? tokens.ids : tokens.windows;
}
