/**
 * Linears whose input is quantized (`Linear.input`): codes of 8 bits less their zero point, multiplied as those of rounded inputs are
 * (integer.ts), with sums that are exact over 1024 columns. With LLM.int8(), the outlier columns of the input are gathered, and multiplied in f32 with the same
 * columns of the weight, decoded.
 * @module
 */
import { type InputGrid, inputGrid, inputLimits } from '@lmq/formats';
import type { InputQuant } from '@lmq/tensor';
import { type BytesWeight, bytesLinear, DEPTH, decodeBytes, type Grids } from './bytes.js';
import { type Core, inParts, withLists, withScratch } from './core.js';
import { type Operand, product } from './gemm.js';
import { integerLinear, type Output, type Rounded, withRounded } from './integer.js';
import type { AffineWeight, PackedWeight } from './load.js';
import type { WasmExports } from './module.js';

/** Bytes of a tile of decoded columns. */
const TILE_BYTES = 2 ** 20;
/** Most rows of x whose outliers are multiplied row by row. */
const GEMV_ROWS = 3;

/** y ← x Wᵀ + bias. */
export function quantizedInputLinear(
  core: Core,
  y: Output,
  x: Operand,
  form: AffineWeight | BytesWeight,
  w: PackedWeight,
  input: InputQuant,
): void {
  const columns = input.kind === 'llm-int8' && input.threshold > 0 ? outlierColumns(core, x, y.rows, w.in, input.threshold) : [];
  if (w.outliers) {
    w.outliers.columns += columns.length;
    w.outliers.of += w.in;
  }
  withQuantizedInput(core, x, y.rows, w.in, input, (rounded, grids) => {
    drop(core, rounded, columns);
    if (form.kind === 'bytes') bytesLinear(core, y, rounded, grids, form, w);
    else integerLinear(core, y, rounded, form, w);
  });
  if (columns.length > 0) addColumns(core, y, x, form, w, columns);
}

function outlierColumns(core: Core, x: Operand, rows: number, width: number, threshold: number): number[] {
  const columns: number[] = [];
  withScratch(core, width, (flags) => {
    core.wasm.outlierColumns(x.at, x.stride, rows, width, threshold, flags);
    const found = core.memory.u8().subarray(flags, flags + width);
    for (let c = found.indexOf(1); c >= 0; c = found.indexOf(1, c + 1)) columns.push(c);
  });
  return columns;
}

/** Finds the grid of each row, or one for all, and hands the codes to `use`. */
function withQuantizedInput(
  core: Core,
  x: Operand,
  rows: number,
  width: number,
  input: InputQuant,
  use: (x: Rounded, grids: Grids) => void,
): void {
  const int8 = input.kind === 'int8';
  const symmetric = !int8 || input.symmetric;
  const perTensor = int8 && input.per === 'tensor';
  const below = !int8 && input.threshold > 0 ? input.threshold : Number.POSITIVE_INFINITY;
  withScratch(core, rows * 24, (grids) => {
    const put = (grid: InputGrid, at: number) => core.memory.f32().set([grid.scale, ...inputLimits(grid, symmetric)], at / 4);
    if (int8 && input.static) put(input.static, grids);
    else {
      const ranges = grids + rows * 16;
      inParts(core, rows, width, (kernels, r, count) =>
        kernels.inputRanges(x.at + r * x.stride, x.stride, count, width, below, ranges + r * 8),
      );
      const found = core.memory.f32().subarray(ranges / 4, ranges / 4 + rows * 2);
      if (perTensor) put(inputGrid(...hull(found), symmetric), grids);
      else for (let r = 0; r < rows; r++) put(inputGrid(found[2 * r]!, found[2 * r + 1]!, symmetric), grids + r * 16);
    }
    const step = perTensor ? 0 : 16;
    withRounded(core, rows, width, { longest: DEPTH, bytes: symmetric }, (rounded) => {
      const { codes, stride, scales, scalesStride } = rounded;
      inParts(core, rows, width, (kernels, r, count) => {
        const [to, toScales] = [codes + r * stride, scales + r * scalesStride];
        kernels.quantizeInt8(x.at + r * x.stride, x.stride, count, width, to, stride, toScales, scalesStride, grids + r * step, step);
      });
      use(rounded, { least: grids + 4, step });
    });
  });
}

/** Least and greatest of pairs; NaN where there is one. */
function hull(ranges: Float32Array): [min: number, max: number] {
  let min = 0;
  let max = 0;
  for (let i = 0; i < ranges.length; i += 2) {
    min = Math.min(min, ranges[i]!);
    max = Math.max(max, ranges[i + 1]!);
  }
  return [min, max];
}

/** Takes columns out of rounded inputs. */
function drop(core: Core, { rows, codes, stride }: Rounded, columns: number[]): void {
  const bytes = core.memory.u8();
  for (let r = 0; r < rows; r++) for (const c of columns) bytes.fill(0, codes + r * stride + 2 * c, codes + r * stride + 2 * c + 2);
}

/** y += x Wᵀ over some columns, in f32. */
function addColumns(core: Core, y: Output, x: Operand, form: AffineWeight | BytesWeight, w: PackedWeight, columns: number[]): void {
  const n = columns.length;
  const tile = Math.min(w.out, Math.max(8, Math.floor(TILE_BYTES / (n * 4))));
  withLists(core, [Int32Array.from(columns)], ([list]) => {
    withScratch(core, (y.rows + tile) * n * 4, (a) => {
      const b = a + y.rows * n * 4;
      inParts(core, y.rows, n, (kernels, r, count) =>
        kernels.select(a + r * n * 4, n * 4, x.at + r * x.stride, x.stride, count, n, 0, list!),
      );
      for (let from = 0; from < w.out; from += tile) {
        const count = Math.min(tile, w.out - from);
        inParts(core, count, n, (kernels, i, m) => decodeColumns(kernels, form, from + i, m, list!, n, b + i * n * 4));
        if (y.rows <= GEMV_ROWS) {
          inParts(core, count, n, (kernels, i, m) => {
            for (let t = 0; t < y.rows; t++) {
              const to = y.at + t * y.stride + (from + i) * 4;
              kernels.gemvFloat(to, a + t * n * 4, b + i * n * 4, n * 4, m, n, to);
            }
          });
        } else {
          const [left, right] = [
            { at: a, stride: n * 4, transposed: false },
            { at: b, stride: n * 4, transposed: true },
          ];
          product(core, y.rows, count, n, left, right, { at: y.at + from * 4, stride: y.stride }, { beta: 1 });
        }
      }
    });
  });
}

/** Columns of rows [row, row + rows) of a weight as f32 [rows, count]. */
function decodeColumns(
  kernels: WasmExports,
  form: AffineWeight | BytesWeight,
  row: number,
  rows: number,
  columns: number,
  count: number,
  to: number,
): void {
  if (form.kind === 'bytes') {
    decodeBytes(kernels, form, row, rows, columns, count, to);
    return;
  }
  const { bits, codes, stride, scales, zeros, zero, groups, groupSize } = form;
  const s = row * groups * 4;
  const [q, z] = [codes.address + row * stride, zeros ? zeros.address + s : 0];
  kernels.decodeColumns(q, stride, bits, scales.address + s, z, groups * 4, zero, groupSize, columns, count, rows, to);
}
