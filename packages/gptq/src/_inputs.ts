/**
 * Square statistics as handles, without a second copy on the host.
 * @module
 */
import { checkFinite } from '@lmq/quant-core';
import { type Handle, LmqError, matrixShape, ndarray, type Scope, type Tensor } from '@lmq/tensor';

const STRIP = 128;

/** @throws LmqError `argument/shape` unless `h` is [n, n] */
function checkSquare(h: Tensor | Handle, n: number, what: string): void {
  const [rows, cols] = 'data' in h ? matrixShape(h, 'gptq') : [h.rows, h.cols];
  if (rows === n && cols === n) return;
  throw new LmqError('argument/shape', `${what} does not fit the weight`, {
    op: 'gptq',
    expected: `${n} x ${n}`,
    found: `${rows} x ${cols}`,
  });
}

/** Strips of rows of a handle, checked to be finite. */
async function eachStrip(s: Scope, h: Handle, what: string, visit: (data: Float32Array, from: number) => void): Promise<void> {
  for (let from = 0; from < h.rows; from += STRIP) {
    const rows = s.view(h, [from, Math.min(from + STRIP, h.rows)]);
    const strip = await s.read(rows);
    s.free(rows);
    checkFinite(strip, what, 'gptq');
    visit(strip.data, from);
  }
}

/**
 * H as a handle, and its diagonal. A handle is passed on, not copied.
 * @throws LmqError `argument/shape`, `argument/value` (NaN or infinity)
 */
export async function hessianOf(s: Scope, h: Tensor | Handle, n: number): Promise<{ hessian: Handle; diagonal: Float64Array }> {
  checkSquare(h, n, 'the Hessian');
  const diagonal = new Float64Array(n);
  if ('data' in h) {
    checkFinite(h, 'the Hessian', 'gptq');
    for (let i = 0; i < n; i++) diagonal[i] = h.data[h.offset + i * (h.stride[0]! + h.stride[1]!)]!;
    return { hessian: s.upload(h), diagonal };
  }
  await eachStrip(s, h, 'the Hessian', (data, from) => {
    for (let i = from, at = from; i < Math.min(from + STRIP, n); i++, at += n + 1) diagonal[i] = data[at]!;
  });
  return { hessian: h, diagonal };
}

/**
 * The cross term as a matrix of its own, columns in the order of the sweep, with nothing in the columns of dead inputs.
 * @param dead by column
 * @throws LmqError `argument/shape`, `argument/value` (NaN or infinity)
 */
export async function crossTermOf(s: Scope, c: Tensor | Handle, n: number, order: Int32Array | null, dead: Uint8Array): Promise<Handle> {
  checkSquare(c, n, 'the cross term');
  let out: Handle;
  if ('data' in c) {
    checkFinite(c, 'the cross term', 'gptq');
    out = s.alloc(n, n);
    const [rowStride, colStride] = [c.stride[0]!, c.stride[1]!];
    for (let from = 0; from < n; from += STRIP) {
      const to = Math.min(from + STRIP, n);
      const strip = new Float32Array((to - from) * n);
      for (let i = from, at = 0; i < to; i++) {
        const row = c.offset + (order ? order[i]! : i) * rowStride;
        for (let j = 0; j < n; j++) strip[at++] = c.data[row + (order ? order[j]! : j) * colStride]!;
      }
      const rows = s.view(out, [from, to]);
      s.write(rows, ndarray(strip, [to - from, n]));
      s.free(rows);
    }
  } else {
    await eachStrip(s, c, 'the cross term', () => {});
    out = order ? s.select(c, order, order) : s.copy(c);
  }
  for (let j = 0; j < n; j++) {
    if (!dead[order ? order[j]! : j]) continue;
    const column = s.view(out, [0, n], [j, j + 1]);
    s.write(column, ndarray(new Float32Array(n), [n, 1]));
    s.free(column);
  }
  return out;
}
