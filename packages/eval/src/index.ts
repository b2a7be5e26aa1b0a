export * from './compare.js';
export * from './log-softmax.js';
export * from './logits.js';
export * from './passkey.js';
export * from './perplexity.js';
export { type WindowOpts, windowsOf } from './windows.js';
