/**
 * Stages that equalize, as read from a recipe.
 * @module
 */
import { checkOneOf, LmqError } from '@lmq/tensor';
import type { EqualizeStage } from '../api.js';

export const EQUALIZE_METHODS = ['awq', 'smoothquant'] as const;

const DEFAULTS = {
  awq: { method: 'awq', duoScaling: false, clip: true, rescale: false, referenceCompat: false },
  smoothquant: { method: 'smoothquant', alpha: undefined, referenceCompat: false },
} as const satisfies Record<EqualizeStage['method'], EqualizeStage>;

/** @throws LmqError `argument/option` naming the field */
export function parseEqualizeStage(fields: Record<string, unknown>, where: string): EqualizeStage {
  const op = 'recipe';
  const method = checkOneOf(String(fields.method), `${where}.method`, EQUALIZE_METHODS, op);
  for (const [name, value] of Object.entries(fields)) {
    const field = `${where}.${name}`;
    if (!Object.hasOwn(DEFAULTS[method], name)) {
      const expected = Object.keys(DEFAULTS[method]).join(', ');
      throw new LmqError('argument/option', `unknown field ${field}`, { op, expected, found: name });
    }
    if (name === 'method') continue;
    if (name === 'alpha') {
      if (value === undefined || value === 'search' || (typeof value === 'number' && value >= 0 && value <= 1)) continue;
      throw new LmqError('argument/option', `${field} is out of range`, { op, expected: '0 … 1, or search', found: value });
    }
    if (typeof value !== 'boolean') throw new LmqError('argument/option', `${field} is not true or false`, { op, found: value });
  }
  return { ...DEFAULTS[method], ...fields } as EqualizeStage;
}
