import { expect, it } from 'vitest';
import { conformance } from '../../kernels-js/test/conformance.js';
import { hasRelaxed } from '../src/_wasm/variant.js';
import { wasmBackend } from '../src/index.js';

// f32 accumulators: at most 384 additions in a row before block sums are joined. Their rounding errors, each at most 2^-24 of the terms'
// magnitude, add up like a random walk: sqrt(384) * 2^-24 is 19.6 * 2^-24. The sums here are shorter, and 16 holds.
const relative = 16 * 2 ** -24;

conformance('wasm-simd128', () => wasmBackend({ kernel: 'simd128' }), { relative });
conformance('wasm-simd128, 3 threads', () => wasmBackend({ kernel: 'simd128', threads: 3 }), { relative });

if (hasRelaxed()) {
  conformance('wasm-relaxed', () => wasmBackend({ kernel: 'relaxed' }), { relative });
  it('relaxed runs by default here', async () => {
    expect((await wasmBackend()).variant).toBe('wasm-relaxed');
  });
} else {
  it.skip('wasm-relaxed: this engine has no relaxed SIMD (Node 22 or newer has)', () => {});
  it('simd128 runs by default here, and relaxed is refused', async () => {
    expect((await wasmBackend()).variant).toBe('wasm-simd128');
    await expect(wasmBackend({ kernel: 'relaxed' })).rejects.toMatchObject({ code: 'backend/unsupported' });
  });
}

it('an unknown kernel is refused', async () => {
  await expect(wasmBackend({ kernel: 'fast' as 'auto' })).rejects.toMatchObject({ code: 'argument/option' });
});
