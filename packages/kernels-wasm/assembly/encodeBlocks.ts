/**
 * The module of block encoders, apart from the backend's. Each takes the address of weights (f32), that of the blocks to write, and the
 * number of blocks; unlike the backend's kernels they keep scratch in the module's own data.
 * @module
 */
export { encodeQ4_0 } from './encodeQ4_0';
export { encodeQ4_1 } from './encodeQ4_1';
export { encodeQ4_K } from './encodeQ4_K';
export { encodeQ5_0 } from './encodeQ5_0';
export { encodeQ5_1 } from './encodeQ5_1';
export { encodeQ5_K } from './encodeQ5_K';
export { encodeQ6_K } from './encodeQ6_K';
export { encodeQ8_0 } from './encodeQ8_0';

/** First byte that the module does not use itself, a multiple of 16. */
export function heapBase(): usize {
  return __heap_base;
}
