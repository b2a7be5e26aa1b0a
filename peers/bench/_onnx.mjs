// The two models that onnxruntime-web is timed with, written by hand: one node and its constant weight. Field numbers: onnx.proto3.

const FLOAT = 1;
const UINT8 = 2;
const INT_ATTRIBUTE = 2;

const utf8 = new TextEncoder();

function varint(n) {
  const bytes = [];
  for (; n > 127; n = Math.floor(n / 128)) bytes.push((n % 128) | 128);
  return Uint8Array.from([...bytes, n]);
}

/** A message: `[field number, value]` pairs, in which a value is a number, a string, bytes or a message. */
function message(...fields) {
  const parts = fields.flatMap(([number, value]) => {
    if (typeof value === 'number') return [varint(number * 8), varint(value)];
    const bytes = typeof value === 'string' ? utf8.encode(value) : value;
    return [varint(number * 8 + 2), varint(bytes.length), bytes];
  });
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

const tensor = (name, type, dims, data) =>
  message(...dims.map((d) => [1, d]), [2, type], [8, name], [9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]);

/** A float matrix with any number of rows. */
const value = (name, cols) => {
  const shape = message([1, message([2, 'tokens'])], [1, message([1, cols])]);
  return message([1, name], [2, message([1, message([1, FLOAT], [2, shape])])]);
};

const attribute = ([name, n]) => message([1, name], [3, n], [20, INT_ATTRIBUTE]);

/** x [tokens, cols] → y [tokens, rows] by one node whose inputs are x and constants. */
function model({ rows, cols, op, domain = '', attributes = {}, constants }) {
  const inputs = ['x', ...Object.keys(constants)].map((name) => [1, name]);
  const node = message(...inputs, [2, 'y'], [4, op], ...Object.entries(attributes).map((a) => [5, attribute(a)]), [7, domain]);
  const graph = message(
    [1, node],
    [2, 'g'],
    ...Object.values(constants).map((c) => [5, c]),
    [11, value('x', cols)],
    [12, value('y', rows)],
  );
  const opset = (domain, version) => [8, message([1, domain], [2, version])];
  return message([1, 8], [7, graph], opset('', 17), opset('com.microsoft', 1));
}

/** y = x W^T; w [rows, cols]. */
export function gemmModel(w, rows, cols) {
  return model({ rows, cols, op: 'Gemm', attributes: { transB: 1 }, constants: { w: tensor('w', FLOAT, [rows, cols], w) } });
}

/**
 * y = x W^T of 4-bit codes (low nibble first, zero point 8) with a scale per `group` columns. Accuracy level 4 lets the runtime round x to
 * 8 bits, its fastest choice.
 */
export function matMulNBitsModel(codes, scales, rows, cols, group) {
  return model({
    rows,
    cols,
    op: 'MatMulNBits',
    domain: 'com.microsoft',
    attributes: { K: cols, N: rows, bits: 4, block_size: group, accuracy_level: 4 },
    constants: {
      w: tensor('w', UINT8, [rows, cols / group, group / 2], codes),
      scales: tensor('scales', FLOAT, [(rows * cols) / group], scales),
    },
  });
}
