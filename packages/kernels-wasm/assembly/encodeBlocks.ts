/**
 * The module of block encoders, apart from the backend's. Each takes the address of weights (f32), that of the blocks to write, and the
 * number of blocks; unlike the backend's kernels they keep scratch in the module's own data.
 * @module
 */
export { encodeQ4_0 } from './encodeQ4_0';
export { encodeQ4_K } from './encodeQ4_K';
export { encodeQ6_K } from './encodeQ6_K';
export { encodeQ8_0 } from './encodeQ8_0';

/** First byte that the module does not use itself. */
export function heapBase(): usize {
  return __heap_base;
}
