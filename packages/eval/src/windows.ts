/**
 * Cutting a text into windows, and the losses of one window. The protocol of the field (e.g. IST-DASLab/gptq): non-overlapping windows,
 * each read on its own; the loss of a token is −ln p(token | tokens before it in the window).
 * @module
 */
import type { Model } from '@lmq/model';
import { checkInteger, LmqError, type LongCallOpts } from '@lmq/tensor';

/** How a text is cut and how much of it is read. */
export interface WindowOpts extends LongCallOpts {
  /** Tokens of text in a window; of no effect on ready-made windows. Default: the model's context, at most 2048. */
  context?: number;
  /** Only the first so many windows. Default: all that the text fills. */
  windows?: number;
  /** Begin token put before every window; it makes the window's first token count too. Default none. */
  bos?: number;
}

/**
 * Cuts ids into windows of `context`; a shorter rest at the end is left out. Views, not copies, when `ids` is a typed array.
 * @param count the first so many; default all
 * @throws LmqError `calibration/short` when the text does not fill the windows asked for, `argument/option`
 */
export function windowsOf(ids: ArrayLike<number>, context: number, count?: number): ArrayLike<number>[] {
  const op = 'windowsOf';
  checkInteger(context, 'context', 2, 2 ** 31, op);
  if (count !== undefined) checkInteger(count, 'windows', 1, 2 ** 31, op);
  const full = Math.floor(ids.length / context);
  const wanted = count ?? full;
  if (full < Math.max(1, wanted)) {
    throw new LmqError('calibration/short', 'the text is too short', {
      op,
      expected: `${Math.max(1, wanted)} windows of ${context} tokens (${Math.max(1, wanted) * context})`,
      found: `${ids.length} tokens`,
      hint: 'Use a longer text, a smaller context or fewer windows.',
    });
  }
  return Array.from({ length: wanted }, (_, i) => slice(ids, i * context, (i + 1) * context));
}

function slice(ids: ArrayLike<number>, from: number, to: number): ArrayLike<number> {
  if (ArrayBuffer.isView(ids)) return (ids as unknown as Int32Array).subarray(from, to);
  return Array.prototype.slice.call(ids, from, to) as number[];
}

/** Windows as a model reads them, and what to predict. */
export interface ReadyWindows {
  context: number;
  /** Ids to feed: with the begin token when there is one. */
  inputs: Int32Array[];
}

/** A text: one stream of ids, to be cut into windows, or windows as somebody cut them, read as they are. */
export type Text = ArrayLike<number> | readonly ArrayLike<number>[];

/** Windows for `model`. @throws LmqError `argument/option` when a window does not fit its context */
export function readyWindows(model: Model, text: Text, opts: WindowOpts, op: string): ReadyWindows {
  const { bos } = opts;
  const room = model.architecture.context - (bos === undefined ? 0 : 1);
  const given = isCut(text) ? text : undefined;
  const context = given ? given.reduce((n, w) => Math.max(n, w.length), 0) : (opts.context ?? Math.min(2048, room));
  if (!(Number.isInteger(context) && context >= 2 && context <= room)) {
    throw new LmqError('argument/option', 'context is out of range', {
      op,
      expected: `an integer in 2 … ${room}`,
      found: context,
      hint: bos === undefined ? "The model's own context is the limit." : "The begin token takes one position of the model's context.",
    });
  }
  const windows = given ? given.slice(0, opts.windows) : windowsOf(text as ArrayLike<number>, context, opts.windows);
  const inputs = windows.map((w) => Int32Array.from(bos === undefined ? Array.from(w) : [bos, ...Array.from(w)]));
  return { context, inputs };
}

function isCut(text: Text): text is readonly ArrayLike<number>[] {
  return Array.isArray(text) && text.length > 0 && typeof text[0] === 'object';
}
