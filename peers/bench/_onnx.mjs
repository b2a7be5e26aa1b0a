// The models that onnxruntime-web is timed with: one node and its constant weight.
import { planOnnx } from '../../packages/checkpoints/dist/index.js';

const bytesOf = (data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** x [tokens, cols] → y [tokens, rows] by one node whose inputs are x and constants. */
function model({ rows, cols, constants, ...node }) {
  const inputs = ['x', ...constants.map((c) => c.name)];
  const value = (name, width) => ({ name, type: 'FLOAT', shape: ['tokens', width] });
  const graph = {
    nodes: [{ name: 'n', inputs, outputs: ['y'], ...node }],
    inputs: [value('x', cols)],
    outputs: [value('y', rows)],
    constants,
    tensors: [],
  };
  const opsets = [
    ['', 17],
    ['com.microsoft', 1],
  ];
  return planOnnx(graph, { opsets, dataName: 'none', producer: 'lmq' }).model;
}

/** y = x W^T; w [rows, cols]. */
export function gemmModel(w, rows, cols) {
  const constants = [{ name: 'w', type: 'FLOAT', shape: [rows, cols], data: bytesOf(w) }];
  return model({ rows, cols, op: 'Gemm', attributes: new Map([['transB', { int: 1 }]]), constants });
}

/**
 * y = x W^T of 4-bit codes (low nibble first, zero point 8) with a scale per `group` columns. Accuracy level 4 lets the runtime round x to
 * 8 bits, its fastest choice.
 */
export function matMulNBitsModel(codes, scales, rows, cols, group) {
  const attributes = Object.entries({ K: cols, N: rows, bits: 4, block_size: group, accuracy_level: 4 });
  return model({
    rows,
    cols,
    op: 'MatMulNBits',
    domain: 'com.microsoft',
    attributes: new Map(attributes.map(([name, int]) => [name, { int }])),
    constants: [
      { name: 'w', type: 'UINT8', shape: [rows, cols / group, group / 2], data: bytesOf(codes) },
      { name: 'scales', type: 'FLOAT', shape: [(rows * cols) / group], data: bytesOf(scales) },
    ],
  });
}

/**
 * y = x W^T with int8 codes of W and a scale per row of it; x is rounded to uint8 at run time, one scale and zero point for all of it. What
 * onnxruntime makes of DynamicQuantizeLinear and MatMulInteger.
 * @param codes Int8Array [rows, cols]
 */
export function dynamicQuantizeModel(codes, scales, rows, cols) {
  const transposed = new Int8Array(codes.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) transposed[c * rows + r] = codes[r * cols + c];
  return model({
    rows,
    cols,
    op: 'DynamicQuantizeMatMul',
    domain: 'com.microsoft',
    constants: [
      { name: 'w', type: 'INT8', shape: [cols, rows], data: bytesOf(transposed) },
      { name: 'scales', type: 'FLOAT', shape: [rows], data: bytesOf(scales) },
    ],
  });
}
