import { createPhase, type ProgressEvent } from '@lmq/tensor';
import { afterEach, expect, it, vi } from 'vitest';

afterEach(() => {
  vi.useRealTimers();
});

it('reports steps with the time left at the pace so far', () => {
  vi.useFakeTimers();
  const events: ProgressEvent[] = [];
  const step = createPhase('quantize', 10, 'layers', { onProgress: (e) => events.push(e) });
  step(0);
  vi.advanceTimersByTime(4000);
  step(2, 'layers.1');
  vi.advanceTimersByTime(6000);
  step(10);
  expect(events).toEqual([
    { phase: 'quantize', done: 0, total: 10, unit: 'layers' },
    { phase: 'quantize', done: 2, total: 10, unit: 'layers', etaSeconds: 16, layer: 'layers.1' },
    { phase: 'quantize', done: 10, total: 10, unit: 'layers', etaSeconds: 0 },
  ]);
});

it('throws the reason of an aborted signal, with or without a listener, and reports nothing then', () => {
  for (const onProgress of [undefined, vi.fn()]) {
    const controller = new AbortController();
    const step = createPhase('p', 2, 'steps', { signal: controller.signal, ...(onProgress && { onProgress }) });
    step(0);
    const reason = new Error('stop');
    controller.abort(reason);
    expect(() => step(1)).toThrow(reason);
    if (onProgress) expect(onProgress).toHaveBeenCalledTimes(1);
  }
});

it('needs no options', () => {
  expect(() => createPhase('p', 1, 'steps', {})(1)).not.toThrow();
});
