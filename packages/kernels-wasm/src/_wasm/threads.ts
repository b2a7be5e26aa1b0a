/**
 * Kernel calls on several threads. JavaScript stays on one thread: it decides, allocates and loops; what is shared out are calls into
 * WebAssembly, whose arguments are numbers and whose operands lie in shared memory. `queue` has the kernels' names and only notes a call;
 * `join` publishes what was noted, takes part, and returns when all of it is done. Noted calls must not depend on each other.
 *
 * Threads claim calls one by one (a ring in shared memory, counters that only grow), so a slow or late thread delays nothing but the call
 * that it holds, and without any worker the caller would do all of it. What is computed does not depend on who computes it.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import type { WasmExports } from './module.js';
import { type Assignment, serve } from './serve.js';

export interface Threads {
  /** Threads in all, the caller's included. */
  readonly count: number;
  readonly queue: WasmExports;
  join(): void;
  /** Ends the workers. The caller does the work from then on. */
  dispose(): void;
}

/** Makes a worker that runs `serve`. Default: from a text of it, in Node and in browsers. */
export type MakeWorker = () => Worker;

/** No other threads: calls run as they are made. */
export function oneThread(wasm: WasmExports): Threads {
  return { count: 1, queue: wasm, join() {}, dispose() {} };
}

/** Whether memory can be shared with workers here. Browsers want the page to be cross-origin isolated. */
export function canShareMemory(): boolean {
  return typeof SharedArrayBuffer === 'function' && globalThis.crossOriginIsolated !== false;
}

const CALLS = 1024; // a power of two
const SLOT = 20; // index, number of arguments, up to 18 arguments
/** Some ten microseconds: a phase often follows the one before it at once, and waking a sleeping thread takes longer. */
const SPIN = 2000;
/** Places in the state, as serve.ts has them. */
const [NEXT, END, DONE, FAILED] = [0, 1, 2, 3] as const;

/**
 * Starts `count - 1` workers and waits for them.
 * @throws LmqError `backend/unsupported` when a worker cannot start
 */
export async function startThreads(
  count: number,
  wasm: WasmExports,
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  makeWorker: MakeWorker = workerOfText,
): Promise<Threads> {
  const names = Object.keys(wasm).filter((name) => typeof wasm[name as keyof WasmExports] === 'function');
  const assignment: Assignment = {
    module,
    memory,
    names,
    state: new SharedArrayBuffer(16),
    slots: new SharedArrayBuffer(CALLS * SLOT * 8),
    calls: CALLS,
    slotLength: SLOT,
    spin: SPIN,
  };
  const workers: Worker[] = [];
  const dispose = () => {
    for (const w of workers.splice(0)) w.terminate();
  };
  try {
    await Promise.all(Array.from({ length: count - 1 }, () => start(makeWorker, assignment, workers)));
  } catch (cause) {
    dispose();
    throw new LmqError('backend/unsupported', 'a worker thread could not start', {
      op: 'wasmBackend',
      found: cause instanceof Error ? cause.message : cause,
      hint: "Leave out threads. A page's content-security policy must allow workers from blobs, or pass worker.",
      cause,
    });
  }

  const state = new Int32Array(assignment.state);
  const slots = new Float64Array(assignment.slots);
  const run = names.map((name) => wasm[name as keyof WasmExports] as (...args: number[]) => void);
  const mayWait = canWait();
  let noted = 0;
  let end = 0;

  const note = (index: number, args: number[]) => {
    if (noted === CALLS) join();
    const at = ((end + noted++) & (CALLS - 1)) * SLOT;
    slots[at] = index;
    slots[at + 1] = args.length;
    slots.set(args, at + 2);
  };
  const call = (i: number) => {
    const at = (i & (CALLS - 1)) * SLOT;
    run[slots[at]!]!(...slots.subarray(at + 2, at + 2 + slots[at + 1]!));
  };
  const join = () => {
    const count = noted;
    noted = 0;
    if (count <= 1) {
      if (count === 1) call(end); // not worth waking anyone
      return;
    }
    end = (end + count) | 0;
    Atomics.store(state, END, end);
    Atomics.notify(state, END);
    for (;;) {
      const next = Atomics.load(state, NEXT);
      if (next === end) break;
      if (Atomics.compareExchange(state, NEXT, next, (next + 1) | 0) !== next) continue;
      try {
        call(next);
      } catch {
        Atomics.store(state, FAILED, 1);
      }
      Atomics.add(state, DONE, 1);
    }
    for (let looks = 0; ; looks++) {
      const done = Atomics.load(state, DONE);
      if (done === end) break;
      if (looks > SPIN && mayWait) Atomics.wait(state, DONE, done);
    }
    if (Atomics.exchange(state, FAILED, 0))
      throw new LmqError('backend/unsupported', 'a kernel failed on one of the threads', { op: 'wasm' });
  };
  const queue = Object.fromEntries(names.map((name, i) => [name, (...args: number[]) => note(i, args)])) as unknown as WasmExports;
  return { count, queue, join, dispose };
}

/** Settles when the worker has answered. */
function start(makeWorker: MakeWorker, assignment: Assignment, workers: Worker[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = makeWorker();
    workers.push(worker);
    worker.onmessage = ({ data }: MessageEvent<'ready' | { error: string }>) => {
      if (data === 'ready') resolve();
      else reject(new Error(data.error));
    };
    worker.onerror = (e) => reject(new Error(e.message || 'the script of the worker did not load'));
    worker.postMessage(assignment);
  });
}

/** A page's main thread may not: it looks again and again, for the few milliseconds that a call lasts at most. */
function canWait(): boolean {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 0);
    return true;
  } catch {
    return false;
  }
}

function workerOfText(): Worker {
  const text = `(${serve})()`;
  const node = globalThis.process?.getBuiltinModule?.('node:worker_threads');
  if (node) {
    const worker = new node.Worker(text, { eval: true });
    const like = {
      postMessage: (data: unknown) => worker.postMessage(data),
      terminate: () => void worker.terminate(),
      onmessage: null as Worker['onmessage'],
      onerror: null as Worker['onerror'],
    };
    worker.on('message', (data) => {
      worker.unref(); // at work, it does not keep the process alive; earlier, listening would undo this
      like.onmessage?.call(like as Worker, { data } as MessageEvent);
    });
    worker.on('error', (e) => like.onerror?.call(like as Worker, { message: e.message } as ErrorEvent));
    return like as Worker;
  }
  const url = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
  const worker = new Worker(url);
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // not before the browser has read it
  return worker;
}
