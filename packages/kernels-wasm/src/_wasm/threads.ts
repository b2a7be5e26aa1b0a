/**
 * Kernel calls on several threads. JavaScript stays on one thread: it decides, allocates and loops; what is shared out are calls into
 * WebAssembly, whose arguments are numbers and whose operands lie in shared memory. `queue` has the kernels' names and only notes a call;
 * `join` publishes what was noted, takes part, and returns when all of it is done. Noted calls must not depend on each other, but those of a
 * `chain`: one thread does them in order.
 *
 * Threads claim calls and chains one by one (a ring in shared memory, counters that only grow), so a slow or late thread delays nothing but the call
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
  /** What `work` notes is for one thread, in this order. */
  chain(work: () => void): void;
  /** @throws LmqError `backend/lost` when a worker died: what the call computes is not to be used, nor is the backend */
  join(): void;
  /** Ends the workers. The caller does the work from then on. */
  dispose(): void;
}

/** Makes a worker that runs `serve`. Default: from a text of it. */
export type MakeWorker = () => Worker;

/** No other threads: calls run as they are made. */
export function oneThread(wasm: WasmExports): Threads {
  return { count: 1, queue: wasm, chain: (work) => work(), join() {}, dispose() {} };
}

/** Whether memory can be shared with workers here. Browsers want the page to be cross-origin isolated. */
export function canShareMemory(): boolean {
  return typeof SharedArrayBuffer === 'function' && globalThis.crossOriginIsolated !== false;
}

const CALLS = 1024; // a power of two
const SLOT = 21; // calls in the chain that begins here, index, number of arguments, up to 18 arguments
/**
 * Milliseconds of looking before a thread sleeps: waking it takes as long. Between two phases the caller works some ten microseconds (a block of a
 * Cholesky factor, a token's norm). 0.05, 0.2 and 1 measured the same on a quiet Xeon; on a busy machine looking takes a core from those who work.
 */
const SPIN = 0.1;
/** Calls take milliseconds. After so many looks in a row, LOOK milliseconds apart, at a count that stands still, a worker is taken for dead. */
const LOOKS = 30;
const LOOK = 1000;
/** Places in the state, as serve.ts has them. */
const [NEXT, END, DONE, FAILED] = [0, 1, 2, 3] as const;

/**
 * Starts `count - 1` workers and waits for them.
 * @param look milliseconds between two looks at a worker that may be dead. Looks are counted, not time: a machine wakes up from sleep with
 * hours gone by and all its threads alive.
 * @throws LmqError `backend/unsupported` when a worker cannot start
 */
export async function startThreads(
  count: number,
  wasm: WasmExports,
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
  makeWorker: MakeWorker = () => workerOfText(),
  look = LOOK,
): Promise<Threads> {
  const names = Object.keys(wasm).filter((name) => typeof wasm[name as keyof WasmExports] === 'function');
  const assignment: Omit<Assignment, 'thread'> = {
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
  let disposed = false;
  const dispose = () => {
    disposed = true;
    for (const w of workers.splice(0)) w.terminate();
  };
  let lost: string | null = null;
  const lose = (why: string) => {
    if (disposed) return; // it was told to end
    lost = why;
    dispose();
  };
  try {
    await Promise.all(Array.from({ length: count - 1 }, (_, i) => start(makeWorker, { ...assignment, thread: i + 1 }, workers, lose)));
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

  /** The first call of the chain that is being noted. */
  let first = -1;
  const slotOf = (i: number) => (i & (CALLS - 1)) * SLOT;

  const note = (index: number, args: number[]) => {
    if (noted === CALLS) {
      join();
      if (first >= 0) first = 0;
    }
    const at = slotOf(end + noted++);
    slots[at] = 1;
    slots[at + 1] = index;
    slots[at + 2] = args.length;
    for (let i = 0; i < args.length; i++) slots[at + 3 + i] = args[i]!; // `set` takes 0.3 µs longer
    if (first >= 0) slots[slotOf(end + first)] = noted - first;
  };
  const chain = (work: () => void) => {
    first = noted;
    try {
      work();
    } finally {
      first = -1;
    }
  };
  const call = (i: number) => {
    const at = slotOf(i);
    const args: number[] = [];
    for (let j = 0; j < slots[at + 2]!; j++) args.push(slots[at + 3 + j]!); // spreading a typed array takes 0.4 µs longer
    run[slots[at + 1]!]!(...args);
  };
  const join = () => {
    const count = noted;
    noted = 0;
    if (lost !== null) throw lostWorker(lost);
    if (count <= 1 || disposed) {
      for (let i = 0; i < count; i++) call(end + i); // one call is not worth waking anyone; workers that were told to end must not begin one
      return;
    }
    end = (end + count) | 0;
    Atomics.store(state, END, end);
    Atomics.notify(state, END);
    for (;;) {
      const next = Atomics.load(state, NEXT);
      if (next === end) break;
      const length = slots[slotOf(next)]!;
      if (Atomics.compareExchange(state, NEXT, next, (next + length) | 0) !== next) continue;
      try {
        for (let i = 0; i < length; i++) call(next + i);
      } catch {
        Atomics.store(state, FAILED, 1);
      }
      Atomics.add(state, DONE, length);
    }
    awaitWorkers();
    if (Atomics.exchange(state, FAILED, 0))
      throw new LmqError('backend/unsupported', 'a kernel failed on one of the threads', { op: 'wasm' });
  };
  /** Returns when the workers have done the calls that they hold. Events of a worker that dies are not delivered meanwhile. */
  const awaitWorkers = () => {
    let seen = Atomics.load(state, DONE);
    let since = performance.now();
    for (let looks = 0; seen !== end; ) {
      const done = Atomics.load(state, DONE);
      const waited = performance.now() - since;
      if (done !== seen) {
        seen = done;
        since += waited;
        looks = 0;
      } else if (waited >= look) {
        since += waited;
        if (++looks < LOOKS) continue;
        lose('it did not finish its call');
        throw lostWorker('it did not finish its call');
      } else if (waited > SPIN && mayWait) Atomics.wait(state, DONE, done, look - waited);
    }
  };
  const queue = Object.fromEntries(names.map((name, i) => [name, (...args: number[]) => note(i, args)])) as unknown as WasmExports;
  return { count, queue, chain, join, dispose };
}

function lostWorker(found: string): LmqError {
  return new LmqError('backend/lost', 'a worker thread died', {
    op: 'wasm',
    expected: 'workers that live until dispose',
    found,
    hint: 'What this backend holds may be half-written: make another one and begin again.',
  });
}

/** Settles when the worker has answered. `lose` hears of its end, whenever that comes. */
function start(makeWorker: MakeWorker, assignment: Assignment, workers: Worker[], lose: (why: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = makeWorker();
    workers.push(worker);
    worker.onmessage = ({ data }: MessageEvent<'ready' | { error: string }>) => {
      if (data !== 'ready') return reject(new Error(data.error));
      worker.onerror = (e) => lose(e.message || 'an error without a message');
      resolve();
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

/** A worker that runs a text, in Node and in browsers. */
export function workerOfText(text = `(${serve})()`): Worker {
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
    const ended = (message: string) => like.onerror?.call(like as Worker, { message } as ErrorEvent);
    worker.on('error', (e) => ended(e.message));
    worker.on('exit', (code) => ended(`it ended with exit code ${code}`));
    return like as Worker;
  }
  const url = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
  const worker = new Worker(url);
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // not before the browser has read it
  return worker;
}
