/**
 * The checks that every backend must pass: each op of the public Scope API against a naive float64 definition written here. A backend's
 * own tests call {@link conformance}.
 *
 * Tolerance: |got - want| <= relative * magnitude, where magnitude is the sum of the absolute values of the terms that make up the
 * element (the usual forward error bound of a sum of k float32 terms is k * 2^-24 * magnitude). Ops that move data, and the grid ops,
 * which are float32 operation by operation, must be exact.
 * @module
 */
import { type Backend, createRng } from '@lmq/tensor';

import { beforeAll, describe, expect, it } from 'vitest';
import type { Kit } from './conformance/kit.js';
import { linearAlgebra } from './conformance/linear-algebra.js';
import { memory } from './conformance/memory.js';
import { quantization } from './conformance/quantization.js';
import { quantizedInputs } from './conformance/quantized-inputs.js';
import { transformer } from './conformance/transformer.js';
import { weights } from './conformance/weights.js';

export interface ConformanceOpts {
  /** Error allowed per unit of magnitude. 2^-23 suits double accumulators with one rounding to float32. */
  relative: number;
}

/** Below this, float32 is subnormal and relative bounds mean nothing. */
const FLOOR = 2 ** -120;

export function conformance(
  name: string,
  makeBackend: () => Promise<Backend>,
  { relative }: ConformanceOpts = { relative: 2 ** -23 },
): void {
  describe(`${name} against the definitions`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await makeBackend();
    });

    const kit: Kit = {
      check: (title, body) => {
        it(title, async () => {
          const s = backend.scope();
          try {
            await body(s, createRng([...title].reduce((h, c) => Math.imul(h, 31) + c.charCodeAt(0), 7)));
          } finally {
            s.dispose();
          }
        });
      },
      near: (got, want, magnitude, where) => {
        expect(got.length, where).toBe(want.length);
        for (let i = 0; i < want.length; i++) {
          const bound = relative * magnitude[i]! + FLOOR;
          if (!(Math.abs(got[i]! - want[i]!) <= bound)) expect.fail(`${where}, element ${i}: got ${got[i]}, want ${want[i]} ± ${bound}`);
        }
      },
      same: (got, want, where) => {
        expect(got.length, where).toBe(want.length);
        for (let i = 0; i < want.length; i++)
          if (!Object.is(got[i], want[i])) expect.fail(`${where}, element ${i}: got ${got[i]}, want ${want[i]}`);
      },
    };
    memory(kit);
    linearAlgebra(kit);
    quantization(kit);
    weights(kit);
    quantizedInputs(kit);
    transformer(kit);
  });
}
