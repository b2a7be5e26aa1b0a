/**
 * The output head on its way through a method.
 * @module
 */
import type { Checkpoint } from '@lmq/checkpoints';
import { type Architecture, headSite, readHead } from '@lmq/model';
import type { Home } from './quantize-blocks.js';

/** The head, where linears are looked for. */
export async function headHome(checkpoint: Checkpoint, architecture: Architecture): Promise<Home> {
  return { linears: new Map([[headSite(architecture).name, { linear: await readHead(checkpoint, architecture) }]]) };
}
