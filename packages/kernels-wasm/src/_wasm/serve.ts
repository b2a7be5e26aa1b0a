/**
 * What a worker thread does: wait for calls of kernels (threads.ts), claim them one by one, run them.
 *
 * The function is also the text of a worker (`serve.toString()`), so it refers to nothing outside itself, constants included.
 * @module
 */

/** What a worker is sent, once. */
export interface Assignment {
  /** Which thread this is; the caller is 0. */
  thread: number;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  /** Names of exports, by index. */
  names: string[];
  /** Int32: next call to claim, end of the published calls, calls done, whether one failed. The counts only grow (modulo 2^32). */
  state: SharedArrayBuffer;
  /** Float64, a ring of `calls` slots: calls in the chain that begins here, index of the export, number of arguments, arguments. */
  slots: SharedArrayBuffer;
  calls: number;
  slotLength: number;
  /** Milliseconds of looking at the end of the published calls before sleeping. */
  spin: number;
}

/** Answers `ready` or `{ error }` to the first message, then never returns to the event loop: a worker is ended from outside. */
export function serve(): void {
  const port = (globalThis.process?.getBuiltinModule?.('node:worker_threads')?.parentPort ?? globalThis) as unknown as MessagePort;
  port.onmessage = ({ data }: MessageEvent<Assignment>) => {
    const { thread, module, memory, names, calls, slotLength, spin } = data;
    const state = new Int32Array(data.state);
    const slots = new Float64Array(data.slots);
    let run: ((...args: number[]) => void)[];
    try {
      const { exports } = new WebAssembly.Instance(module, { env: { memory, abort() {} } });
      run = names.map((name) => exports[name] as (...args: number[]) => void);
      (exports.setThread as (n: number) => void)(thread);
    } catch (e) {
      port.postMessage({ error: String(e) });
      return;
    }
    port.postMessage('ready');
    for (;;) {
      const next = Atomics.load(state, 0);
      const end = Atomics.load(state, 1);
      if (next === end) {
        const until = performance.now() + spin;
        while (Atomics.load(state, 1) === end && performance.now() < until);
        Atomics.wait(state, 1, end); // returns at once if there is something
        continue;
      }
      const chain = slots[(next & (calls - 1)) * slotLength]!;
      if (Atomics.compareExchange(state, 0, next, (next + chain) | 0) !== next) continue; // another thread has it
      try {
        for (let i = 0; i < chain; i++) {
          const at = ((next + i) & (calls - 1)) * slotLength;
          const args: number[] = [];
          for (let j = 0; j < slots[at + 2]!; j++) args.push(slots[at + 3 + j]!);
          run[slots[at + 1]!]!(...args);
        }
      } catch {
        Atomics.store(state, 3, 1);
      }
      if (((Atomics.add(state, 2, chain) + chain) | 0) === Atomics.load(state, 1)) Atomics.notify(state, 2);
    }
  };
}
