/**
 * Linears whose input is rounded to integers (`activations: 'int16' | 'int8'`, and quantized-input.ts): the codes of input and weight are multiplied in integer
 * arithmetic, exactly, over chunks of columns that share all scales; chunks are added in f32. Few rows of x go row by row straight from
 * the packed codes (assembly/gemvCodes.ts), more as a blocked product of 16-bit panels (assembly/gemmCodes.ts).
 * @module
 */
import type { Activations } from '@lmq/tensor';
import { type Core, inParts, MC, withScratch } from './core.js';
import { type Operand, product } from './gemm.js';
import type { AffineWeight, PackedWeight } from './load.js';
import type { Block } from './memory.js';
import type { WasmExports } from './module.js';

/** Most rows of x that go row by row: measured; unpacking codes into panels costs as much as a few passes over them. */
const GEMV_ROWS = 6;
/** Columns of an int8 scale, and of a vector of codes. */
const BLOCK = 32;
/** Longest exact sum with 16-bit inputs: 256 products of a 16-bit and an 8-bit code stay below 2^31. */
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

/** What the rounding of an input allows. */
interface Rounding {
  /** Most columns that share a scale and whose integer sum is exact: a multiple of 32 up to DEPTH. */
  longest: number;
  /** Whether codes are within ±127. */
  bytes: boolean;
}

/** Rounded inputs in memory: codes (i16, zero-padded to whole blocks) and a scale (f32) per block. Strides in bytes. */
export interface Rounded {
  rows: number;
  /** Columns with padding. */
  width: number;
  codes: number;
  stride: number;
  scales: number;
  scalesStride: number;
  rounding: Rounding;
  /** The codes as bytes (assembly/gemvDots4.ts), `width` a row, where they are needed. */
  bytes?: number;
}

/** Space for a rounded input. */
export function withRounded(core: Core, rows: number, cols: number, rounding: Rounding, use: (input: Rounded) => void): void {
  const width = Math.ceil(cols / BLOCK) * BLOCK;
  const [stride, scalesStride] = [width * 2, (width / BLOCK) * 4];
  withScratch(core, rows * (stride + scalesStride), (codes) =>
    use({ rows, width, codes, stride, scales: codes + rows * stride, scalesStride, rounding }),
  );
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
  const int8 = activations === 'int8';
  const [block, largest] = int8 ? [BLOCK, 127] : [cols, 32767];
  withRounded(core, rows, cols, { longest: int8 ? BLOCK : LONGEST, bytes: int8 }, (rounded) => {
    const { codes, stride, scales, scalesStride } = rounded;
    const round = (kernels: WasmExports, from: number, count: number) => {
      for (let r = from; r < from + count; r++)
        kernels.quantizeInput(x.at + r * x.stride, cols, codes + r * stride, scales + r * scalesStride, block, largest);
    };
    inParts(core, rows, cols, round, 1);
    use(rounded);
  });
}

/** The rounded input as f32, for weights that have no integer kernel. */
export function withDecodedInput(core: Core, input: Rounded, cols: number, use: (x: Operand) => void): void {
  withScratch(core, input.rows * cols * 4, (at) => {
    const restore = (kernels: WasmExports, from: number, count: number) => {
      for (let r = from; r < from + count; r++)
        kernels.dequantizeInput(input.codes + r * input.stride, input.scales + r * input.scalesStride, cols, at + r * cols * 4);
    };
    inParts(core, input.rows, cols, restore, 1);
    use({ at, stride: cols * 4, transposed: false });
  });
}

/** Whole vectors of codes share a scale; or halves of them, as in Q6_K. */
export function hasIntegerKernel(form: AffineWeight, width: number): boolean {
  return form.wholeZeros && !form.groupIndex && (form.groupSize >= width || form.groupSize % BLOCK === 0 || inHalves(form));
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
function chunkOf(form: AffineWeight, width: number, longest: number): number {
  const { groupSize } = form;
  if (inHalves(form)) return groupSize;
  let chunk = longest;
  if (groupSize < width) while (groupSize % chunk !== 0) chunk -= BLOCK;
  return chunk;
}

/** y ← x Wᵀ + bias; the weight has an integer kernel. */
export function integerLinear(core: Core, y: Output, x: Rounded, form: AffineWeight, w: PackedWeight): void {
  const chunk = chunkOf(form, w.in, x.rounding.longest);
  const few = x.rows <= GEMV_ROWS;
  if (few && usesDots(core, form, x)) {
    withBytes(core, x, (bytes) => gemv(core, y, bytes, form, w, chunk));
    return;
  }
  if (form.bits === 4) for (let t = 0; t < x.rows; t++) core.wasm.nibbleOrder(x.codes + t * x.stride, w.in);
  if (few) gemv(core, y, x, form, w, chunk);
  else gemm(core, y, x, form, w, chunk);
}

/** Codes of 4 bits and inputs of 8: what the dot product of bytes is exact for. */
function usesDots({ dots }: Core, { bits }: AffineWeight, { rounding }: Rounded): boolean {
  return dots !== 'none' && bits === 4 && rounding.bytes;
}

/** x with its codes as bytes. The wide ones stay, for sums over groups. */
function withBytes(core: Core, x: Rounded, use: (x: Rounded) => void): void {
  withScratch(core, x.rows * x.width, (bytes) => {
    for (let t = 0; t < x.rows; t++) core.wasm.bytesInput(x.codes + t * x.stride, x.width, bytes + t * x.width);
    use({ ...x, bytes });
  });
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
  const { bits, codes, stride, scales, zeros, zero, mins, groups } = form;
  const kernel = bits === 4 ? 'gemvCodes4' : 'gemvCodes8';
  const group = Math.min(form.groupSize, w.in);
  const dots = usesDots(core, form, x);
  withSums(core, x, form, w.in, (allSums) => {
    if (mins) addMins(core, y, w, mins, groups, (t) => allSums + t * groups * 4);
    inParts(core, w.out, w.in, (kernels, r, count) => {
      const s = r * groups * 4;
      const [q, by, z] = [codes.address + r * stride, scales.address + s, zeros ? zeros.address + s : 0];
      for (let t = 0; t < x.rows; t++) {
        const to = y.at + t * y.stride + r * 4;
        const [input, inputScales, sums] = [
          dots ? x.bytes! + t * x.width : x.codes + t * x.stride,
          x.scales + t * x.scalesStride,
          allSums + t * groups * 4,
        ];
        const start = mins ? to : w.bias ? w.bias.address + r * 4 : 0;
        if (inHalves(form)) kernels.gemvCodesHalves(to, input, inputScales, q, stride, by, groups * 4, count, w.in, start);
        else if (dots) kernels.gemvDots4(to, input, inputScales, sums, q, stride, by, z, groups * 4, zero, count, w.in, group, start);
        else kernels[kernel](to, input, inputScales, sums, q, stride, by, z, groups * 4, zero, count, w.in, group, chunk, start);
      }
    });
  });
}

/** y ← bias + minimums times the sums of their groups, before the codes' part is added in place. */
export function addMins(core: Core, y: Output, w: PackedWeight, mins: Block, groups: number, sumsOf: (row: number) => number): void {
  inParts(core, w.out, groups, (kernels, r, count) => {
    const bias = w.bias ? w.bias.address + r * 4 : 0;
    for (let t = 0; t < y.rows; t++)
      kernels.gemvFloat(y.at + t * y.stride + r * 4, sumsOf(t), mins.address + r * groups * 4, groups * 4, count, groups, bias);
  });
}

function gemm(core: Core, y: Output, x: Rounded, form: AffineWeight, w: PackedWeight, chunk: number): void {
  const { queue, codeTileRows, work } = core;
  const { bits, codes, stride, scales, zeros, zero, mins, groups } = form;
  const pack = bits === 4 ? 'packCodes4' : 'packCodes8';
  const group = Math.min(form.groupSize, w.in);
  const depth = Math.max(chunk, Math.floor(DEPTH / chunk) * chunk);
  const panels = Math.ceil(x.rows / codeTileRows);
  const copies = chunk < BLOCK ? 2 : 1;
  const [aPanel, aScalesPanel] = [x.width * 2 * codeTileRows, x.scalesStride * codeTileRows * copies]; // bytes
  const bBytes = WIDTH * DEPTH * 2;
  const bScalesBytes = (WIDTH / 8) * (depth / chunk) * 32;
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
  const blocks = Math.min(Math.ceil(w.out / WIDTH), core.count === 1 ? 1 : 2 * core.count); // of the weight, unpacked at the same time
  withScratch(core, panels * (aPanel + aScalesPanel) + blocks * (bBytes + bScalesBytes), (a) => {
    const aScales = a + panels * aPanel;
    const b = aScales + panels * aScalesPanel;
    const bScales = b + blocks * bBytes;
    const input = (kernels: WasmExports, r: number, count: number) => {
      const [codesAt, scalesAt, p] = [x.codes + r * x.stride, x.scales + r * x.scalesStride, r / codeTileRows];
      kernels.packInput(codesAt, x.stride, scalesAt, x.scalesStride, count, x.width, a + p * aPanel, aScales + p * aScalesPanel, copies);
    };
    inParts(core, x.rows, x.width, input, codeTileRows);
    for (let j0 = 0; j0 < w.out; j0 += blocks * WIDTH) {
      const end = Math.min(w.out, j0 + blocks * WIDTH);
      for (let p = 0; p < x.width; p += depth) {
        const k = Math.min(depth, x.width - p);
        for (let j = j0, i = 0; j < end; j += WIDTH, i++) {
          const s = j * groups * 4;
          const [q, by, z] = [codes.address + j * stride, scales.address + s, zeros ? zeros.address + s : 0];
          const n = Math.min(WIDTH, w.out - j);
          queue[pack](q, stride, by, z, groups * 4, zero, group, n, p, k, chunk, b + i * bBytes, bScales + i * bScalesBytes);
        }
        core.join();
        const bScalesPanel = Math.ceil(k / chunk) * 32;
        for (let j = j0, i = 0; j < end; j += WIDTH, i++) {
          const n = Math.min(WIDTH, w.out - j);
          for (let r = 0; r < x.rows; r += MC) {
            const m = Math.min(MC, x.rows - r);
            const panel = r / codeTileRows;
            const from = a + panel * aPanel + p * 2 * codeTileRows;
            const fromScales = aScales + panel * aScalesPanel + (p / BLOCK) * 4 * codeTileRows * copies;
            const [pb, pbScales, to] = [b + i * bBytes, bScales + i * bScalesBytes, y.at + r * y.stride + j * 4];
            queue.gemmCodes(m, n, k, chunk, from, aPanel, fromScales, aScalesPanel, pb, pbScales, bScalesPanel, to, y.stride, work);
          }
        }
        core.join();
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
