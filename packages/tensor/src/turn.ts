/**
 * Long work in JavaScript that leaves room for everything else.
 * @module
 */

/** Lets timers, input and rendering run. */
export function nextTurn(): Promise<void> {
  if (typeof setImmediate === 'function') return new Promise((resolve) => setImmediate(resolve));
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel(); // not clamped to 4 ms as nested timeouts are
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}
