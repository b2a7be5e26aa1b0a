/**
 * Folders as llm-compressor writes them: uniform integers, and floats of 8 bits and fewer.
 * @module
 */
import { type CompressedTensorsScheme, compressedTensorsConfig, compressedTensorsScheme, toCompressedTensors } from '@lmq/checkpoints';
import { type CompressedTensor, type FloatFormat, type InputQuant, LmqError } from '@lmq/tensor';
import { planInput } from '../input-quant.js';
import type { PlannedSite } from '../plan.js';
import { asAffine, type Scheme, schemeNotes } from './affine.js';
import type { FolderFormat } from './format.js';
import { checkAffine } from './rules.js';
import { storedBytes } from './sizes.js';

const BITS = [1, 2, 3, 4, 5, 6, 7, 8];

export const compressedTensorsFolder: FolderFormat = {
  saysInput: (input) => input.kind === 'int8',
  check(planned) {
    checkAffine(
      { target: 'compressed-tensors', bits: BITS, out: 1, inputs: 1, actOrder: true, mixed: true, head: true, asymmetric: true },
      planned,
    );
    checkInputs(planned);
  },
  bytes: (site) => storedBytes((name, t) => pack(name, t, plannedInput(site)), site),
  begin({ linears, dtype }) {
    const found = new Map<string, CompressedTensorsScheme>();
    const schemes: Scheme[] = [];
    return {
      add(name, tensor, input) {
        const t = asAffine(tensor);
        const scheme = compressedTensorsScheme(name, t, optsOf(t, input));
        found.set(name, scheme);
        schemes.push(describe(name.slice(0, -'.weight'.length), t, scheme, dtype));
      },
      finish() {
        const quantized = new Set(schemes.map((s) => s.module));
        const notes = schemeNotes(schemes, dtype, (module) => linears.includes(module));
        if ([...found.values()].some((s) => s.format === 'int-quantized' && !s.input_activations))
          notes.push('float32 scales are stored as int-quantized, which vLLM runs only where inputs are rounded too');
        return {
          // a head that is the embedding matrix is no tensor here, and a linear there
          quantization: compressedTensorsConfig({
            linears: found,
            ignore: [...new Set([...linears, 'lm_head'])].filter((l) => !quantized.has(l)),
          }),
          files: {},
          notes,
          pack,
        };
      },
    };
  },
};

/** 8-bit codes with scales that are no 16-bit floats, as those of bitsandbytes, have only the format that does not pack. */
const formatOf = (t: CompressedTensor) =>
  t.kind === 'affine' && t.bits === 8 && t.scales.format === 'fp32' ? ({ format: 'int-quantized' } as const) : {};

/** LLM.int8() has no words in the format. */
const optsOf = (t: CompressedTensor, input: InputQuant | undefined) => ({ ...formatOf(t), ...(input?.kind === 'int8' && { input }) });

function pack(name: string, tensor: CompressedTensor, input?: InputQuant) {
  const t = asAffine(tensor);
  return toCompressedTensors(name, t, optsOf(t, input));
}

/** @throws LmqError `export/unsupported` for weights that runtimes do not multiply with rounded inputs */
function checkInputs(planned: readonly PlannedSite[]): void {
  for (const { site, stage, in: width } of planned) {
    const { input, bits, symmetric, groupSize } = stage;
    if (input === undefined || (bits === 8 && symmetric && (groupSize < 0 || groupSize >= width))) continue;
    throw new LmqError('export/unsupported', 'runtimes round inputs for symmetric 8-bit rows only', {
      op: 'export',
      tensor: site.name,
      expected: '8 bits, symmetric, a scale per row',
      found: `${bits} bits${symmetric ? '' : ', asymmetric'}${groupSize < 0 ? '' : `, groups of ${groupSize}`}`,
      hint: 'Export to lmq, or leave input out: the weights are the same.',
    });
  }
}

/** The input of a linear that is yet to be quantized, with some scale where calibration finds one. */
function plannedInput({ stage }: PlannedSite): InputQuant | undefined {
  if (stage.input === undefined) return undefined;
  const { quant, range } = planInput(stage.input);
  return range && quant.kind === 'int8' ? { ...quant, static: { scale: 1, zeroPoint: 0 } } : quant;
}

function describe(module: string, t: CompressedTensor, { weights }: CompressedTensorsScheme, dtype: FloatFormat): Scheme {
  const scales = t.kind === 'affine' || t.kind === 'minifloat' ? t.scales?.format : undefined;
  return {
    module,
    bits: weights.num_bits,
    groupSize: weights.group_size ?? -1,
    symmetric: weights.symmetric,
    actOrder: weights.actorder !== undefined,
    scales: scales === 'fp16' || scales === 'bf16' ? scales : dtype, // others keep their format whatever a model is loaded in
  };
}
