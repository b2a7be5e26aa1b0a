/**
 * The half of the pipeline that touches files: opening models, reading text, writing results.
 * @module
 */
export * from './_node/calibrate-model.js';
export type { Change } from './_node/changes.js';
export type { LinearError } from './_node/compare-linears.js';
export * from './_node/convert-model.js';
export * from './_node/describe-format.js';
export * from './_node/estimate-model.js';
export * from './_node/importance-file.js';
export * from './_node/inspectable.js';
export * from './_node/open-model.js';
export * from './_node/quantize-model.js';
export * from './_node/read-tokens.js';
export { readJson } from './_node/text-files.js';
export * from './_node/verify-model.js';
export type { Finding } from './_verify/finding.js';
