export type * from './backend.js';
export * from './errors.js';
export type * from './kernels.js';
export type * from './layouts.js';
export * from './ndarray.js';
export * from './options.js';
export * from './progress.js';
export * from './rng.js';
export * from './scope.js';
