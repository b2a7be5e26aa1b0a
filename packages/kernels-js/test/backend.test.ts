import { jsBackend } from '@lmq/kernels-js';
import { conformance } from './conformance.js';

// Double accumulators: one rounding to float32, at most 2^-24 of the result; 2^-23 leaves room for the double sums.
conformance('js', async () => jsBackend(), { relative: 2 ** -23 });
