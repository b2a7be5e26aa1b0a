/** A backend that counts the bytes of the matrices alive in it. */
import type { Backend, Handle, Scope } from '@lmq/tensor';

const bytesOf = (h: Handle) => h.rows * h.cols * (h.type === 'u8' ? 1 : 4);

export function countingBackend(base: Backend): { backend: Backend; peak: () => number; now: () => number } {
  let live = 0;
  let peak = 0;
  const count = (scope: Scope): Scope => {
    const owned = new Map<Handle, number>();
    const took = (h: Handle) => {
      owned.set(h, bytesOf(h));
      live += bytesOf(h);
      peak = Math.max(peak, live);
      return h;
    };
    const gave = (h: Handle) => {
      live -= owned.get(h) ?? 0;
      owned.delete(h);
    };
    const counted: Partial<Scope> = {
      upload: (t) => took(scope.upload(t)),
      alloc: (rows, cols, type) => took(scope.alloc(rows, cols, type)),
      copy: (h) => took(scope.copy(h)),
      select: (h, rows, cols) => took(scope.select(h, rows, cols)),
      triangularInverse: (h) => took(scope.triangularInverse(h)),
      gemm: (a, b, o) => (o?.out ? scope.gemm(a, b, o) : took(scope.gemm(a, b, o))),
      fakeQuant: (w, g, n, c) => took(scope.fakeQuant(w, g, n, c)),
      cholesky(h) {
        const out = scope.cholesky(h);
        took(out.factor);
        return out;
      },
      free(h) {
        gave(h);
        scope.free(h);
      },
      dispose() {
        for (const h of [...owned.keys()]) gave(h);
        scope.dispose();
      },
    };
    return new Proxy(scope, { get: (target, key) => Reflect.get(key in counted ? counted : target, key) });
  };
  return { backend: { ...base, scope: (o) => count(base.scope(o)) }, peak: () => peak, now: () => live };
}
