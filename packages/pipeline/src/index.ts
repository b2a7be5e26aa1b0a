export type * from './api.js';
export * from './calibration.js';
export * from './export-rules.js';
export * from './model-size.js';
export * from './overlay.js';
export * from './plan.js';
export * from './quantize-blocks.js';
export * from './quantize-linear.js';
export * from './recipe.js';
