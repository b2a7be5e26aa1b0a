/**
 * Which results an export can hold. Nothing is ever quantized a second time to fit a file format.
 * @module
 */
import { LmqError } from '@lmq/tensor';
import type { ExportName, Stage } from './api.js';
import type { PlannedSite } from './plan.js';

/** What a linear must be, for GGUF block types to hold it bit for bit. */
const BLOCK_STAGES = {
  'gguf:q4_0': { bits: 4, groupSize: 32, symmetric: true, scaleFormat: 'fp16' },
  'gguf:q8_0': { bits: 8, groupSize: 32, symmetric: true, scaleFormat: 'fp16' },
} as const;

/** The stage options that an export to GGUF blocks asks for; undefined for the other exports. */
export function blockStage(target: ExportName): Pick<Stage, 'bits' | 'groupSize' | 'symmetric' | 'scaleFormat'> | undefined {
  return BLOCK_STAGES[target as keyof typeof BLOCK_STAGES];
}

/**
 * Refuses an export that cannot hold what the plan produces.
 * @throws LmqError `export/unsupported` naming the first linear that does not fit and the nearest export that does
 */
export function checkExport(target: ExportName, planned: readonly PlannedSite[]): void {
  if (target === 'lmq' || target === 'gguf:f32') return; // any layout; any decoded value
  if (target === 'gguf:f16') {
    if (!planned.length) return;
    throw new LmqError('export/unsupported', 'a product of code and scale is not a half-precision number', {
      op: 'export',
      tensor: planned[0]!.site.name,
      found: target,
      hint: 'Export quantized weights to lmq, to gguf:f32 (decoded), or to a quantized GGUF type.',
    });
  }
  const need = blockStage(target)!;
  for (const { site, stage } of planned) {
    const wrong = (Object.keys(need) as (keyof typeof need)[]).filter((k) => stage[k] !== need[k]);
    if (stage.actOrder && !stage.staticGroups) wrong.push('groupSize');
    if (!wrong.length) continue;
    throw new LmqError('export/unsupported', `${target} cannot hold this linear`, {
      op: 'export',
      tensor: site.name,
      expected: Object.entries(need)
        .map(([k, v]) => `${k} ${v}`)
        .concat(stage.actOrder && !stage.staticGroups ? ['staticGroups true with actOrder'] : [])
        .join(', '),
      found: wrong.map((k) => `${k} ${stage[k]}`).join(', '),
      hint: `The nearest exports that hold it: lmq (as it is), gguf:f32 (decoded). Or quantize with what ${target} needs.`,
    });
  }
}
