import { expect, it } from 'vitest';
import { createMemory } from '../src/_wasm/memory.js';
import { instantiate } from '../src/_wasm/module.js';
import { WASM_SIMD128 } from '../src/generated/simd128.js';

// The claim of assembly/exp.ts, measured: distance from e^x in units of the last place of the float32 result.
it('exp stays within 1.1 ulp over its whole range', async () => {
  const memory = createMemory();
  const { wasm } = await instantiate(WASM_SIMD128, memory.memory, false);
  const n = 2_000_000;
  const block = memory.allocate(8 * n);
  const x = memory.f32().subarray(block.address / 4, block.address / 4 + n);
  for (let i = 0; i < n; i++) x[i] = -104 + (193 * i) / (n - 1);
  wasm.expRow(block.address + 4 * n, block.address, n);
  const y = memory.f32().subarray(block.address / 4 + n, block.address / 4 + 2 * n);
  let worst = 0;
  for (let i = 0; i < n; i++) {
    const want = Math.exp(x[i]!);
    if (want > 3.4028234663852886e38) {
      expect(y[i]! >= 3.4e38, `x = ${x[i]}`).toBe(true);
      continue;
    }
    const ulp = 2 ** Math.max(Math.floor(Math.log2(want)) - 23, -149);
    worst = Math.max(worst, Math.abs(y[i]! - want) / ulp);
  }
  console.log(`exp: at most ${worst.toFixed(3)} ulp`);
  expect(worst).toBeLessThanOrEqual(1.1);

  const special = Float32Array.of(0, -0, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NaN, -200, 200);
  memory.f32().set(special, block.address / 4);
  wasm.expRow(block.address + 4 * n, block.address, special.length);
  expect(Array.from(y.subarray(0, special.length))).toEqual([1, 1, 0, Number.POSITIVE_INFINITY, Number.NaN, 0, Number.POSITIVE_INFINITY]);
});
