/**
 * The relaxed binary: everything, and kernels that only relaxed SIMD makes worthwhile.
 * @module
 */
export * from './index';
export { dotProbe } from './dotProbe';
export { bytesInput, gemvDots4 } from './gemvDots4';
