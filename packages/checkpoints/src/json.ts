/**
 * JSON of untrusted files.
 * @module
 */
export { parseJson } from './_json.js';
