/**
 * The relaxed binary: everything, and kernels that only relaxed SIMD makes worthwhile.
 * @module
 */
export * from './index';
export { bytesInput, dotProbe, gemvDots4 } from './gemvDots4';
