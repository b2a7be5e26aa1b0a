/**
 * Multiplication with a loaded weight: y = x Wᵀ + bias, in f32.
 *
 * Up to 3 rows of x (6 for codes): dot products straight from the stored form (assembly/gemv*.ts), the way of decoding tokens. More rows: gemm, whose
 * packing of B decodes tiles of the weight. The two add in different orders, so the rounding of a row depends on which of them ran.
 * @module
 */
import { decodeRows } from '@lmq/formats';
import type { CompressedTensor } from '@lmq/tensor';
import { type BytesWeight, decodeBytes } from './bytes.js';
import { type Core, f32, inParts, step, type WasmMat, withScratch } from './core.js';
import { blockDepth, type DecodeB, type Operand, type Panels, panelOffset, product } from './gemm.js';
import { addMins, hasIntegerKernel, integerLinear, type Output, startAtBias, withDecodedInput, withRoundedInput } from './integer.js';
import type { AffineWeight, DenseWeight, PackedWeight, PanelWeight, SparseWeight, TableWeight } from './load.js';
import type { WasmExports } from './module.js';
import { quantizedInputLinear } from './quantized-input.js';

/** Most rows of x that go row by row. Codes are cheaper to multiply in place than to decode, so they cross over later. */
const GEMV_ROWS = 3;
const CODES_GEMV_ROWS = 6;
/** Bytes of decoded rows of a weight that has no kernel. */
const TILE_BYTES = 2 ** 21;

export function linear(core: Core, out: WasmMat, x: WasmMat, w: PackedWeight): void {
  if (out.rows === 0 || out.cols === 0) return;
  const y = { at: f32(out), stride: step(out), rows: out.rows };
  const input = { at: f32(x), stride: step(x), transposed: false };
  denseLinear(core, y, input, x.rows, w);
  if (w.sparse) addSparse(core, y, input, w, w.sparse);
}

/** Everything but the sparse rows. */
function denseLinear(core: Core, y: Output, input: Operand, rows: number, w: PackedWeight): void {
  const { form } = w;
  if (form.kind === 'bytes' || (w.input && form.kind === 'affine')) {
    quantizedInputLinear(core, y, input, form, w, w.input!);
    return;
  }
  const hasCodes = !w.sparse && (form.kind === 'affine' || (form.kind === 'foreign' && form.weight.kind === 'blocks'));
  if (!hasCodes || w.activations === 'float32') {
    floatLinear(core, y, input, form, w);
    return;
  }
  withRoundedInput(core, input, rows, w.in, w.activations, (rounded) => {
    if (form.kind === 'affine' && hasIntegerKernel(form, w.in)) integerLinear(core, y, rounded, form, w);
    else withDecodedInput(core, rounded, w.in, (decoded) => floatLinear(core, y, decoded, form, w));
  });
}

function floatLinear(core: Core, y: Output, input: Operand, form: Exclude<PackedWeight['form'], BytesWeight>, w: PackedWeight): void {
  const integer = form.kind === 'affine' && hasGemv(form, w.in);
  const table = form.kind === 'table' && wholeBlocks(form.groupSize, w.in);
  const few = y.rows <= (integer || table ? CODES_GEMV_ROWS : GEMV_ROWS);
  if (!few && w.bias) startAtBias(core, y, w);
  if (form.kind === 'foreign') foreign(core, y, input, form.weight, w);
  else if (!few) many(core, y, input, w, gemmOperand(form));
  else if (integer) affineRows(core, y, input, form, w);
  else if (table) tableRows(core, y, input, form, w);
  else inTiles(core, y, input, w, form);
}

/** Look-up works in blocks of 16 codes that share a scale. */
function wholeBlocks(groupSize: number, width: number): boolean {
  return groupSize >= width || groupSize % 16 === 0;
}

/** Integer gemv works where a block of codes shares one scale. */
function hasGemv({ bits, groupSize, groupIndex }: AffineWeight, width: number): boolean {
  return !groupIndex && (groupSize >= width || groupSize % (bits === 4 ? 32 : 16) === 0);
}

function many(core: Core, y: Output, x: Operand, w: PackedWeight, b: Operand | Panels | DecodeB, from = 0, count = w.out): void {
  product(core, y.rows, count, w.in, x, b, { at: y.at + from * 4, stride: y.stride }, { beta: w.bias ? 1 : 0 });
}

/** How gemm reads a weight. */
function gemmOperand(form: DenseWeight | PanelWeight | AffineWeight | TableWeight): Panels | DecodeB {
  if (form.kind === 'panels') return { at: form.data.address, cols: form.rows, panels: true };
  return (kernels, j, n, k, kc, to, stride) => decodeTile(kernels, form, j, n, k, kc, to, stride);
}

/** Rows [row, row + rows), columns [k, k + cols) of a weight as f32 at `to`. k is even. */
function decodeTile(
  wasm: WasmExports,
  form: DenseWeight | AffineWeight | TableWeight,
  row: number,
  rows: number,
  k: number,
  cols: number,
  to: number,
  toStride: number,
): void {
  if (form.kind === 'affine') {
    const { bits, codes, stride, scales, zeros, zero, mins, groups, groupSize, groupIndex } = form;
    const s = row * groups * 4;
    const z = zeros ? zeros.address + s : 0;
    const m = mins ? mins.address + s : 0;
    const index = groupIndex?.address ?? 0;
    const from = codes.address + row * stride;
    wasm.decodeAffine(from, stride, bits, scales.address + s, z, m, groups * 4, zero, groupSize, index, to, toStride, rows, k, cols);
    return;
  }
  if (form.kind === 'table') {
    const { codes, stride, tables, tableStride, scales, groups, groupSize } = form;
    const s = scales ? scales.address + row * groups * 4 : 0;
    const from = codes.address + row * stride;
    wasm.decodeTable(from, stride, tables.address + row * tableStride, tableStride, s, groups * 4, groupSize, to, toStride, rows, k, cols);
    return;
  }
  const { format, data, stride } = form;
  const decode = format === 'fp16' ? wasm.decodeHalf : wasm.decodeBrain;
  decode(data.address + row * stride + k * 2, stride, to, toStride, rows, cols);
}

/** Few rows of x, integer codes. */
function affineRows(core: Core, y: Output, x: Operand, form: AffineWeight, w: PackedWeight): void {
  const { codes, stride, scales, zeros, zero, mins, groups, groupSize } = form;
  const [prepare, gemv] = form.bits === 4 ? (['prepareInt4', 'gemvInt4'] as const) : (['prepareInt8', 'gemvInt8'] as const);
  const padded = Math.ceil(w.in / 32) * 32 * 4;
  const each = padded + Math.ceil(groups / 16) * 64;
  const group = Math.min(groupSize, w.in);
  withScratch(core, each * y.rows, (scratch) => {
    for (let t = 0; t < y.rows; t++) core.wasm[prepare](x.at + t * x.stride, w.in, scratch + t * each, scratch + t * each + padded, group);
    if (mins) addMins(core, y, w, mins, groups, (t) => scratch + t * each + padded);
    inParts(core, w.out, w.in, (kernels, r, count) => {
      const s = r * groups * 4;
      const z = zeros ? zeros.address + s : 0;
      for (let t = 0; t < y.rows; t++) {
        const [to, input] = [y.at + t * y.stride + r * 4, scratch + t * each];
        const start = mins ? to : w.bias ? w.bias.address + r * 4 : 0;
        const [q, by] = [codes.address + r * stride, scales.address + s];
        kernels[gemv](to, input, input + padded, q, stride, by, z, groups * 4, zero, count, w.in, group, start);
      }
    });
  });
}

/** Few rows of x, codes of tables. */
function tableRows(core: Core, y: Output, x: Operand, form: TableWeight, w: PackedWeight): void {
  const { codes, stride, tables, tableStride, scales, groups, groupSize } = form;
  const group = Math.min(groupSize, w.in);
  inParts(core, w.out, w.in, (kernels, r, count) => {
    const s = scales ? scales.address + r * groups * 4 : 0;
    const start = w.bias ? w.bias.address + r * 4 : 0;
    const [q, table] = [codes.address + r * stride, tables.address + r * tableStride];
    for (let t = 0; t < y.rows; t++) {
      const [to, input] = [y.at + t * y.stride + r * 4, x.at + t * x.stride];
      kernels.gemvTable(to, input, q, stride, table, tableStride, s, groups * 4, count, w.in, group, start, core.work);
    }
  });
}

/** y += x S for the sparse rows of a weight. */
function addSparse(core: Core, y: Output, x: Operand, w: PackedWeight, { rowStart, columns, values }: SparseWeight): void {
  inParts(core, w.out, y.rows, (kernels, r, count) => {
    for (let t = 0; t < y.rows; t++) {
      const [to, input] = [y.at + t * y.stride + r * 4, x.at + t * x.stride];
      kernels.addCsr(to, input, rowStart.address + r * 4, columns.address, values.address, count);
    }
  });
}

/** Few rows of x, dense weights as loaded; what has no kernel for that is decoded by rows first. */
function inTiles(core: Core, y: Output, x: Operand, w: PackedWeight, form: DenseWeight | PanelWeight | AffineWeight | TableWeight): void {
  if (form.kind === 'panels') {
    const { rows, data } = form;
    const depth = blockDepth(w.in);
    inParts(
      core,
      w.out,
      w.in,
      (kernels, r, count) => {
        for (let t = 0; t < y.rows; t++) {
          const start = w.bias ? w.bias.address + r * 4 : 0;
          kernels.gemvPanels(y.at + t * y.stride + r * 4, x.at + t * x.stride, data.address, rows, r, count, w.in, depth, start);
        }
      },
      16,
    );
    return;
  }
  if (form.kind === 'dense') {
    const gemv = form.format === 'fp16' ? 'gemvHalf' : 'gemvBrain';
    rowsTimes(core, gemv, y, x, w, form.data.address, form.stride, 0, w.out);
    return;
  }
  withDecodedRows(
    core,
    w,
    (from, count, at) =>
      inParts(core, count, w.in, (kernels, r, n) => decodeTile(kernels, form, from + r, n, 0, w.in, at + r * w.in * 4, w.in * 4)),
    (from, count, at) => rowsTimes(core, 'gemvFloat', y, x, w, at, w.in * 4, from, count),
  );
}

/** Rows [from, from + count) of the weight, at `at`, times each row of x. */
function rowsTimes(
  core: Core,
  gemv: 'gemvFloat' | 'gemvHalf' | 'gemvBrain',
  y: Output,
  x: Operand,
  w: PackedWeight,
  at: number,
  stride: number,
  from: number,
  count: number,
): void {
  inParts(core, count, w.in, (kernels, r, n) => {
    const bias = w.bias ? w.bias.address + (from + r) * 4 : 0;
    for (let t = 0; t < y.rows; t++)
      kernels[gemv](y.at + t * y.stride + (from + r) * 4, x.at + t * x.stride, at + r * stride, stride, n, w.in, bias);
  });
}

/** Decodes tiles of whole rows into scratch memory and hands each to `use`. */
function withDecodedRows(
  core: Core,
  w: PackedWeight,
  decode: (from: number, count: number, at: number) => void,
  use: (from: number, count: number, at: number) => void,
): void {
  const rows = Math.min(w.out, Math.max(8, Math.floor(TILE_BYTES / (w.in * 4))));
  withScratch(core, rows * w.in * 4, (at) => {
    for (let from = 0; from < w.out; from += rows) {
      const count = Math.min(rows, w.out - from);
      decode(from, count, at);
      use(from, count, at);
    }
  });
}

/** Layouts without a kernel: tiles of rows decoded in JavaScript. */
function foreign(core: Core, y: Output, x: Operand, weight: CompressedTensor, w: PackedWeight): void {
  withDecodedRows(
    core,
    w,
    (from, count, at) => decodeRows(weight, from, from + count, core.memory.f32().subarray(at / 4, at / 4 + count * w.in)),
    (from, count, at) => {
      if (y.rows <= GEMV_ROWS) rowsTimes(core, 'gemvFloat', y, x, w, at, w.in * 4, from, count);
      else many(core, y, x, w, { at, stride: w.in * 4, transposed: true }, from, count);
    },
  );
}

/** out[i] ← decode(weight)[ids[i]]. Exact. */
export function embedding(core: Core, out: WasmMat, w: PackedWeight, ids: Int32Array): void {
  const at = f32(out);
  const data = core.memory.f32();
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    const to = at + i * step(out);
    if (w.form.kind === 'foreign') decodeRows(w.form.weight, id, id + 1, data.subarray(to / 4, to / 4 + w.in));
    else if (w.form.kind === 'panels') {
      const { rows } = w.form;
      const depth = blockDepth(w.in);
      for (let k = 0; k < w.in; k += depth) {
        const kc = Math.min(depth, w.in - k);
        const from = (w.form.data.address + panelOffset(rows, id - (id % 8), k, kc)) / 4 + (id % 8);
        for (let c = 0; c < kc; c++) data[to / 4 + k + c] = data[from + c * 8]!;
      }
    } else if (w.form.kind === 'bytes') decodeBytes(core.wasm, w.form, id, 1, 0, w.in, to);
    else decodeTile(core.wasm, w.form, id, 1, 0, w.in, to, step(out));
    if (w.sparse) addSparseRow(core, w.sparse, id, to, w.in);
  }
}

/** Adds one sparse row to the decoded row at `to`, as decoding does: zeros too, which turn -0 into 0. */
function addSparseRow(core: Core, { rowStart, columns, values }: SparseWeight, row: number, to: number, width: number): void {
  const [words, data] = [core.memory.i32(), core.memory.f32()];
  for (let c = 0; c < width; c++) data[to / 4 + c]! += 0;
  const at = rowStart.address / 4 + row;
  for (let i = words[at]!; i < words[at + 1]!; i++) data[to / 4 + words[columns.address / 4 + i]!]! += data[values.address / 4 + i]!;
}
