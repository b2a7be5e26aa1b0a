export type * from './api.js';
export * from './awq-clip.js';
export * from './awq-scales.js';
export * from './fold.js';
export * from './smoothquant.js';
