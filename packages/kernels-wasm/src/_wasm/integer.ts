/**
 * Linears whose input is rounded to integers (`activations: 'int16' | 'int8'`): the codes of input and weight are multiplied in integer
 * arithmetic, exactly, over chunks of columns that share all scales; chunks are added in f32. Few rows of x go row by row straight from
 * the packed codes (assembly/gemvCodes.ts), more as a blocked product of 16-bit panels (assembly/gemmCodes.ts).
 * @module
 */
import type { Activations } from '@lmq/tensor';
import { type Core, inParts, MC, withScratch } from './core.js';
import { type Operand, product } from './gemm.js';
import type { AffineWeight, PackedWeight } from './load.js';

/** Most rows of x that go row by row: measured; unpacking codes into panels costs as much as a few passes over them. */
const GEMV_ROWS = 6;
/** Columns of an int8 scale, and of a vector of codes. */
const BLOCK = 32;
/** Longest exact sum: 256 products of a 16-bit and an 8-bit code stay below 2^31. */
const LONGEST = 256;

/** Block of the weight that is unpacked at a time: WIDTH rows of it by DEPTH columns. Long runs of a row stream better than short ones. */
const DEPTH = 1024;
const WIDTH = 128;

/** y, with its rows. */
export interface Output {
  at: number;
  stride: number;
  rows: number;
}

/** Rounded inputs in memory: codes (i16, zero-padded to whole blocks) and a scale (f32) per block. Strides in bytes. */
interface Rounded {
  rows: number;
  /** Columns with padding. */
  width: number;
  codes: number;
  stride: number;
  scales: number;
  scalesStride: number;
}

/** Rounds x and hands the result to `use`. */
export function withRoundedInput(
  core: Core,
  x: Operand,
  rows: number,
  cols: number,
  activations: Exclude<Activations, 'float32'>,
  use: (input: Rounded) => void,
): void {
  const width = Math.ceil(cols / BLOCK) * BLOCK;
  const [stride, scalesStride] = [width * 2, (width / BLOCK) * 4];
  const [block, largest] = activations === 'int16' ? [cols, 32767] : [BLOCK, 127];
  withScratch(core, rows * (stride + scalesStride), (codes) => {
    const scales = codes + rows * stride;
    for (let r = 0; r < rows; r++)
      core.wasm.quantizeInput(x.at + r * x.stride, cols, codes + r * stride, scales + r * scalesStride, block, largest);
    use({ rows, width, codes, stride, scales, scalesStride });
  });
}

/** The rounded input as f32, for weights that have no integer kernel. */
export function withDecodedInput(core: Core, input: Rounded, cols: number, use: (x: Operand) => void): void {
  withScratch(core, input.rows * cols * 4, (at) => {
    for (let r = 0; r < input.rows; r++)
      core.wasm.dequantizeInput(input.codes + r * input.stride, input.scales + r * input.scalesStride, cols, at + r * cols * 4);
    use({ at, stride: cols * 4, transposed: false });
  });
}

/** Whole vectors of codes share a scale; or halves of them, as in Q6_K. */
export function hasIntegerKernel(form: AffineWeight, width: number): boolean {
  return !form.groupIndex && (form.groupSize >= width || form.groupSize % BLOCK === 0 || inHalves(form));
}

/** Scales change every 16 columns: 8-bit codes whose zero is the one they are read with. */
function inHalves({ bits, groupSize, zeros, zero }: AffineWeight): boolean {
  return bits === 8 && groupSize === BLOCK / 2 && !zeros && zero === 128;
}

/** Whether sums of the input over groups are needed: for zero points that the kernels do not take away as they read codes, and for minimums. */
function needsSums({ bits, zeros, zero, mins }: AffineWeight): boolean {
  return zeros !== null || mins !== null || zero !== (bits === 4 ? 0 : 128);
}

/** Columns that are summed in integers: they share the scales of weight and input. */
function chunkOf(form: AffineWeight, width: number, activations: Activations): number {
  const { groupSize } = form;
  if (inHalves(form)) return groupSize;
  if (activations === 'int8') return BLOCK;
  let chunk = LONGEST;
  if (groupSize < width) while (groupSize % chunk !== 0) chunk -= BLOCK;
  return chunk;
}

/** y ← x Wᵀ + bias; the weight has an integer kernel. */
export function integerLinear(core: Core, y: Output, x: Rounded, form: AffineWeight, w: PackedWeight): void {
  const chunk = chunkOf(form, w.in, w.activations);
  if (form.bits === 4) for (let t = 0; t < x.rows; t++) core.wasm.nibbleOrder(x.codes + t * x.stride, w.in);
  if (x.rows <= GEMV_ROWS) gemv(core, y, x, form, w, chunk);
  else gemm(core, y, x, form, w, chunk);
}

/** Sums of each row of x over the groups of a weight, [rows, groups] f32 in scratch memory; address 0 where no one asks for them. */
function withSums(core: Core, x: Rounded, form: AffineWeight, width: number, use: (sums: number) => void): void {
  if (!needsSums(form)) {
    use(0);
    return;
  }
  withScratch(core, x.rows * form.groups * 4, (sums) => {
    const group = Math.min(form.groupSize, width);
    for (let t = 0; t < x.rows; t++)
      core.wasm.inputSums(x.codes + t * x.stride, x.scales + t * x.scalesStride, width, group, sums + t * form.groups * 4);
    use(sums);
  });
}

function gemv(core: Core, y: Output, x: Rounded, form: AffineWeight, w: PackedWeight, chunk: number): void {
  const { wasm } = core;
  const { bits, codes, stride, scales, zeros, zero, mins, groups } = form;
  const kernel = bits === 4 ? wasm.gemvCodes4 : wasm.gemvCodes8;
  const group = Math.min(form.groupSize, w.in);
  withSums(core, x, form, w.in, (allSums) => {
    inParts(w.out, w.in, (r, count) => {
      const s = r * groups * 4;
      const [q, by] = [codes.address + r * stride, scales.address + s];
      for (let t = 0; t < x.rows; t++) {
        const to = y.at + t * y.stride + r * 4;
        const [input, inputScales, sums] = [x.codes + t * x.stride, x.scales + t * x.scalesStride, allSums + t * groups * 4];
        let start = w.bias ? w.bias.address + r * 4 : 0;
        if (mins) {
          wasm.gemvFloat(to, sums, mins.address + s, groups * 4, count, groups, start);
          start = to;
        }
        if (inHalves(form)) wasm.gemvCodesHalves(to, input, inputScales, q, stride, by, groups * 4, count, w.in, start);
        else {
          const z = zeros ? zeros.address + s : 0;
          kernel(to, input, inputScales, sums, q, stride, by, z, groups * 4, zero, count, w.in, group, chunk, start);
        }
      }
    });
  });
}

function gemm(core: Core, y: Output, x: Rounded, form: AffineWeight, w: PackedWeight, chunk: number): void {
  const { wasm, packedB, edge, codeTileRows } = core;
  const { bits, codes, stride, scales, zeros, zero, mins, groups } = form;
  const pack = bits === 4 ? wasm.packCodes4 : wasm.packCodes8;
  const group = Math.min(form.groupSize, w.in);
  const depth = Math.max(chunk, Math.floor(DEPTH / chunk) * chunk);
  const panels = Math.ceil(x.rows / codeTileRows);
  const copies = chunk < BLOCK ? 2 : 1;
  const [aPanel, aScalesPanel] = [x.width * 2 * codeTileRows, x.scalesStride * codeTileRows * copies]; // bytes
  const bScales = packedB + WIDTH * DEPTH * 2;
  startAtBias(core, y, w);
  if (mins) {
    withSums(core, x, form, w.in, (sums) => {
      const [a, b] = [
        { at: sums, stride: groups * 4, transposed: false },
        { at: mins.address, stride: groups * 4, transposed: true },
      ];
      product(core, x.rows, w.out, groups, a, b, y, { beta: 1 });
    });
  }
  withScratch(core, panels * (aPanel + aScalesPanel), (a) => {
    const aScales = a + panels * aPanel;
    wasm.packInput(x.codes, x.stride, x.scales, x.scalesStride, x.rows, x.width, a, aScales, copies);
    for (let j = 0; j < w.out; j += WIDTH) {
      const n = Math.min(WIDTH, w.out - j);
      const s = j * groups * 4;
      const z = zeros ? zeros.address + s : 0;
      for (let p = 0; p < x.width; p += depth) {
        const k = Math.min(depth, x.width - p);
        const bScalesPanel = Math.ceil(k / chunk) * 32;
        pack(codes.address + j * stride, stride, scales.address + s, z, groups * 4, zero, group, n, p, k, chunk, packedB, bScales);
        for (let i = 0; i < x.rows; i += MC) {
          const m = Math.min(MC, x.rows - i);
          const panel = i / codeTileRows;
          const from = a + panel * aPanel + p * 2 * codeTileRows;
          const fromScales = aScales + panel * aScalesPanel + (p / BLOCK) * 4 * codeTileRows * copies;
          const to = y.at + i * y.stride + j * 4;
          wasm.gemmCodes(m, n, k, chunk, from, aPanel, fromScales, aScalesPanel, packedB, bScales, bScalesPanel, to, y.stride, edge);
        }
      }
    }
  });
}

/** y ← bias, or 0, in every row. */
export function startAtBias({ memory }: Core, y: Output, w: PackedWeight): void {
  const data = memory.f32();
  for (let r = 0; r < y.rows; r++) {
    const to = (y.at + r * y.stride) / 4;
    if (w.bias) data.copyWithin(to, w.bias.address / 4, w.bias.address / 4 + w.out);
    else data.fill(0, to, to + w.out);
  }
}
