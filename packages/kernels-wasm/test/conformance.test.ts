import { conformance } from '../../kernels-js/test/conformance.js';
import { wasmBackend } from '../src/index.js';

// f32 accumulators: at most 256 additions in a row before block sums are joined. Their rounding errors, each at most 2^-24 of the terms'
// magnitude, add up like a random walk: sqrt(256) * 2^-24.
conformance('wasm', () => wasmBackend(), { relative: 16 * 2 ** -24 });
