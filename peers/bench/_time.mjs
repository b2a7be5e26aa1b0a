// Timing of several engines in turns, so that what slows the machine down for a while slows all of them down alike; by CPU time beside wall
// time, because on a busy machine only CPU time repeats.

const ofProcess = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
let cpuClock = globalThis.process?.cpuUsage && ofProcess;

/** Reads the CPU time where there is no `process`: a function that resolves with seconds. */
export function setCpuClock(clock) {
  cpuClock = clock;
}

/** The clocks there are, the better one first. */
export const clocks = () => (cpuClock ? ['cpu', 'wall'] : ['wall']);

/** Seconds that `work` takes by each clock. */
export async function time(work) {
  const from = await cpuClock?.();
  const start = performance.now();
  await work();
  const wall = (performance.now() - start) / 1e3;
  return cpuClock ? { wall, cpu: (await cpuClock()) - from } : { wall };
}

const ROUND_SECONDS = 0.2; // of one engine in one round, at least
const WARM_SECONDS = 1; // engines start on slow code, which is replaced between calls, never within one
const WARM_CALLS = 3;

/**
 * Times every `engine.run()`: warm, then in `rounds` rounds of turns.
 * @returns per engine, the seconds per call of each round, by each clock
 */
export async function inTurns(engines, rounds) {
  const calls = [];
  for (const { run } of engines) {
    const start = performance.now();
    let fastest = Number.POSITIVE_INFINITY;
    for (let i = 0; i < WARM_CALLS || performance.now() - start < WARM_SECONDS * 1e3; i++) {
      const from = performance.now();
      await run();
      fastest = Math.min(fastest, (performance.now() - from) / 1e3);
    }
    calls.push(Math.max(1, Math.ceil(ROUND_SECONDS / Math.max(fastest, 1e-5))));
  }
  const times = engines.map(() => []);
  for (let r = 0; r < rounds; r++) {
    for (const [k, { run }] of engines.entries()) {
      const took = await time(async () => {
        for (let i = 0; i < calls[k]; i++) await run();
      });
      for (const clock of clocks()) took[clock] /= calls[k];
      times[k].push(took);
    }
    await new Promise((resolve) => setTimeout(resolve)); // let the engine put its optimized code in
  }
  return times;
}

/** Median and least of the `clock` (wall or cpu) of rounds. */
export function summary(times, clock) {
  const sorted = times.map((t) => t[clock]).sort((a, b) => a - b);
  return { median: sorted[sorted.length >> 1], best: sorted[0] };
}
