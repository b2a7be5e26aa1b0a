export type * from './api.js';
export * from './gptq.js';
export * from './gptq-linear.js';
