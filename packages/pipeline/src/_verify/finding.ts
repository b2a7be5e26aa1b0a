/**
 * What a check of a model file finds.
 * @module
 */
import type { ErrorFacts, LmqError } from '@lmq/tensor';

/** Every check, by its stable id, and what it looks at. */
export const CHECKS = {
  container: 'files open: magic, header, spans, index and shards',
  configuration: 'config.json and the quantization it names can be read and fit together',
  tokenizer: 'the tokenizer can be built',
  missing: 'every tensor that the architecture needs is there',
  strangers: 'there is no tensor that the architecture has no use for',
  shapes: 'tensors have the shapes that the configuration implies',
  vocabulary: 'tokens of the tokenizer and special tokens are rows of the embeddings',
  head: 'a head that is tied to the embeddings is not stored as something else',
  data: 'the data of every tensor can be read and fits its header',
  finite: 'no value, scale or table entry is NaN or infinite',
  scales: 'no group of codes has a scale of 0',
  'zero-points': 'zero points are ones that every runtime reads alike',
  groups: 'every group of act-order has its number of columns',
  padding: 'bits behind the last code of a row are 0',
  labels: 'labels (version, symmetric, act-order, file type) say what the data is',
  against: 'weights are those of the original, up to their error',
} as const;

export type CheckId = keyof typeof CHECKS;

export interface Finding {
  check: CheckId;
  /** An error makes a file invalid; a warning is for people to judge. */
  severity: 'error' | 'warning';
  message: string;
  file?: string;
  tensor?: string;
  /** Byte of the file. */
  offset?: number;
}

export const warning = (check: CheckId, message: string, where: Pick<Finding, 'file' | 'tensor'> = {}): Finding => ({
  check,
  severity: 'warning',
  message,
  ...where,
});

export const error = (check: CheckId, message: string, where: Pick<Finding, 'file' | 'tensor'> = {}): Finding => ({
  check,
  severity: 'error',
  message,
  ...where,
});

/** A reader's refusal as a finding. What lmq does not know is no fault of the file. */
export function findingOf(e: LmqError, check: CheckId): Finding {
  const { file, tensor, offset } = e.facts satisfies ErrorFacts;
  const severity = e.code === 'model/unsupported' || e.code === 'tokenizer/unsupported' ? 'warning' : 'error';
  return {
    check,
    severity,
    message: e.message,
    ...(file !== undefined && { file }),
    ...(tensor !== undefined && { tensor }),
    ...(offset !== undefined && { offset }),
  };
}
