/**
 * Progress and cancellation of long calls.
 * @module
 */

/** One step of a long call. `done` never decreases within a phase. */
export interface ProgressEvent {
  phase: string;
  done: number;
  total: number;
  unit: string;
  /** Seconds to the end of the phase at the pace so far; absent before the first step is done. */
  etaSeconds?: number;
  /** What is being worked on, e.g. a layer's name. */
  layer?: string;
}

export type OnProgress = (event: ProgressEvent) => void;

/** The options that every long call takes. */
export interface LongCallOpts {
  /** Stops the call at the next step; it then throws `signal.reason`. */
  signal?: AbortSignal;
  onProgress?: OnProgress;
}

/** Counts the steps of one phase and reports each with the time left. */
export function createPhase(phase: string, total: number, unit: string, opts: LongCallOpts): (done: number, layer?: string) => void {
  const start = Date.now();
  return (done, layer) => {
    opts.signal?.throwIfAborted();
    if (!opts.onProgress) return;
    const event: ProgressEvent = { phase, done, total, unit };
    if (done > 0) event.etaSeconds = ((Date.now() - start) / 1000 / done) * (total - done);
    if (layer !== undefined) event.layer = layer;
    opts.onProgress(event);
  };
}
