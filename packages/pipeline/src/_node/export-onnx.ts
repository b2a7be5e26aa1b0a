/**
 * Export to a folder that transformers.js loads: config.json, the tokenizer, and `onnx/model….onnx` with its weights beside it. The name of
 * the file says the width of the weights, as transformers.js looks for it (`dtype`); config.json says which one is there.
 * @module
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Checkpoint, type OnnxGraph, planOnnx, writeOnnxData } from '@lmq/checkpoints';
import { createFolder, type PlaceOpts, writeFileAtomic } from '@lmq/checkpoints/node';
import { matMulBlockSize } from '@lmq/formats';
import type { Architecture } from '@lmq/model';
import { createPhase, type LongCallOpts } from '@lmq/tensor';
import { ONNX_OPSETS, onnxDecoder } from '../onnx-graph/decoder.js';
import type { PlannedSite } from '../plan.js';
import { type Companions, configOf, writeCompanions } from './companions.js';

export interface ExportOnnxOpts extends LongCallOpts, PlaceOpts {
  companions: Companions;
  output: string;
  architecture: Architecture;
}

/** Suffixes and dtypes of transformers.js 4 (src/utils/dtypes.js). */
const FLOAT = { dtype: 'fp32', file: 'model.onnx' };
const BITS_8 = { dtype: 'q8', file: 'model_quantized.onnx' };
const BITS_4 = { dtype: 'q4', file: 'model_q4.onnx' };

/** Writes the folder; it appears under its name only when it is whole. */
export async function exportOnnx(checkpoint: Checkpoint, opts: ExportOnnxOpts): Promise<{ bytes: number; notes: string[] }> {
  const { signal } = opts;
  const graph = await onnxDecoder({ ...opts, checkpoint });
  const { dtype, file } = fileOf(graph);
  const { model, files } = planOnnx(reporting(graph, opts), { opsets: ONNX_OPSETS, dataName: `${file}_data`, producer: 'lmq' });
  const config = await configOf(opts.companions);
  const folder = await createFolder(opts.output, opts);
  try {
    const dir = join(folder.dir, 'onnx');
    await mkdir(dir);
    for (const data of files) await writeFileAtomic(join(dir, data.name), (sink) => writeOnnxData(sink, data), { signal });
    await writeFileAtomic(join(dir, file), (sink) => sink.write(model), { signal });
    const loading = { dtype, use_external_data_format: { [file]: files.length } };
    const { folder: from, files: others } = opts.companions;
    const notes = await writeCompanions({ folder: from, files: { ...others, 'config.json': withLoading(config, loading) } }, folder.dir);
    if (opts.architecture.moe)
      notes.push(`transformers.js 4.3 does not know ${opts.architecture.family}: load onnx/${file} with onnxruntime`);
    await folder.commit();
    return { bytes: files.reduce((sum, f) => f.tensors.reduce((n, t) => n + t.bytes, sum), 0), notes };
  } catch (e) {
    await folder.abort();
    throw e;
  }
}

/** Bytes of the tensors that a recipe will have written. Reads headers only, where the weights are plain. */
export async function onnxBytesOf(checkpoint: Checkpoint, architecture: Architecture, planned: readonly PlannedSite[]): Promise<number> {
  const quantization = planned.map(({ site, stage, in: width }) => {
    const blockSize = matMulBlockSize(stage.groupSize < 0 ? width : stage.groupSize, width);
    return [site.name, { bits: stage.bits, blockSize, zeroPoints: !stage.symmetric }] as const;
  });
  const { tensors } = await onnxDecoder({ checkpoint, architecture, planned: new Map(quantization) });
  return tensors.reduce((sum, t) => sum + t.shape.reduce((n, d) => n * d, t.dtype === 'FLOAT' ? 4 : 1), 0);
}

/** By the narrowest weights. */
function fileOf({ nodes }: OnnxGraph): typeof FLOAT {
  const bits = nodes.flatMap(({ op, attributes }) => {
    const width = op === 'MatMulNBits' ? attributes?.get('bits') : undefined;
    return width && 'int' in width ? [width.int] : [];
  });
  if (bits.includes(4)) return BITS_4;
  return bits.length ? BITS_8 : FLOAT;
}

/** The configuration with what transformers.js needs to know; a quantization of the source is no more. */
function withLoading(config: Record<string, unknown>, loading: Record<string, unknown>): unknown {
  const { quantization_config: _, ...rest } = config;
  return { ...rest, 'transformers.js_config': loading };
}

function reporting(graph: OnnxGraph, opts: LongCallOpts): OnnxGraph {
  const done = createPhase('write', graph.tensors.length, 'tensors', opts);
  let written = 0;
  const tensors = graph.tensors.map((t) => ({
    ...t,
    bytes: async () => {
      const bytes = await t.bytes();
      done(++written, t.name);
      return bytes;
    },
  }));
  return { ...graph, tensors };
}
