/**
 * The backend's kernels, assembled: each checks that its matrices lie in their memory, then calls into WebAssembly in parts.
 * @module
 */
import type { Kernels } from '@lmq/tensor';
import { attention } from './attention.js';
import { type Core, f32, inParts, step, u8, withLists } from './core.js';
import { copy, read, write } from './data.js';
import { gemm, syrk } from './gemm.js';
import { cholesky, triangularInverse } from './linalg.js';
import { embedding, linear } from './linear.js';
import { loadLinear, type PackedWeight, unload } from './load.js';
import type { Block } from './memory.js';

export function createKernels(core: Core, variant: string, dispose: () => void): Kernels<Block, PackedWeight> {
  const { wasm, memory } = core;
  return {
    variant,
    threads: core.count,
    dispose,
    allocate: (type, length) => memory.allocate(type === 'f32' ? length * 4 : length),
    release: memory.release,
    write: (to, type, data) => write(core, to, type, data),
    read: async (from, type) => read(core, from, type),
    copy: (to, from, type) => copy(core, to, from, type),
    async finish() {}, // nothing is queued

    load: (weight, activations) => loadLinear(core, weight, activations),
    unload: (packed) => unload(memory, packed),

    gemm: (out, a, b, transposeA, transposeB, alpha, beta) => gemm(core, out, a, b, transposeA, transposeB, alpha, beta),
    syrk: (h, x, alpha, beta) => syrk(core, h, x, alpha, beta),
    cholesky: (out, a) => cholesky(core, out, a),
    triangularInverse: (out, l) => triangularInverse(core, out, l),
    select: (out, a, rows, cols) =>
      withLists(core, [rows, cols], ([r = 0, c = 0]) => {
        const [to, from] = [f32(out), f32(a)];
        inParts(core, out.rows, out.cols, (kernels, i, count) => {
          const source = r ? from : from + i * step(a);
          kernels.select(to + i * step(out), step(out), source, step(a), count, out.cols, r && r + i * 4, c);
        });
      }),
    scatterAdd: (into, a, rows, factors) =>
      withLists(core, [rows, factors], ([r = 0, f = 0]) => {
        const [to, from] = [f32(into), f32(a)];
        // on this thread: rows may repeat, and sums keep their order
        inParts(core, a.rows, a.cols, (_, i, count) =>
          wasm.scatterAdd(to, step(into), from + i * step(a), step(a), count, a.cols, r + i * 4, f && f + i * 4),
        );
      }),
    addTo: (into, a, alpha) => {
      const [to, from] = [f32(into), f32(a)];
      inParts(core, a.rows, a.cols, (kernels, i, count) =>
        kernels.addTo(to + i * step(into), step(into), from + i * step(a), step(a), count, a.cols, alpha),
      );
    },

    fakeQuant: (out, codes, w, scales, zeroPoints, groupSize, maxCode) => {
      const [to, from, s, z] = [f32(out), f32(w), f32(scales), f32(zeroPoints)];
      const [c, cStep] = codes ? [u8(codes), codes.stride] : [0, 0];
      const [sStep, zStep] = [step(scales), step(zeroPoints)];
      const size = Math.min(groupSize, Math.max(1, w.cols)); // fits 32 bits
      inParts(core, w.rows, w.cols, (kernels, i, n) =>
        kernels.fakeQuant(
          to + i * step(out),
          step(out),
          c && c + i * cStep,
          cStep,
          from + i * step(w),
          step(w),
          s + i * sStep,
          sStep,
          z + i * zStep,
          zStep,
          n,
          w.cols,
          size,
          maxCode,
        ),
      );
    },
    obsSweep: (w, u, errors, codes, scales, zeroPoints, maxCode, start, end, blockEnd) => {
      const [wAt, uAt, e, c, s, z] = [f32(w), f32(u), f32(errors), u8(codes), f32(scales), f32(zeroPoints)];
      // half a multiplication and subtraction per pair of columns; a vector unit does several per element of other kernels
      const perRow = ((end - start) * (blockEnd - start)) / 8;
      inParts(core, w.rows, perRow, (kernels, i, n) =>
        kernels.obsSweep(
          wAt + i * step(w),
          step(w),
          uAt,
          step(u),
          e + i * step(errors),
          step(errors),
          c + i * codes.stride,
          codes.stride,
          s + i * step(scales),
          step(scales),
          z + i * step(zeroPoints),
          step(zeroPoints),
          n,
          maxCode,
          start,
          end,
          blockEnd,
        ),
      );
    },
    obsSweepTable: (w, u, errors, codes, tables, start, end, blockEnd) => {
      const [wAt, uAt, e, c, t] = [f32(w), f32(u), f32(errors), u8(codes), f32(tables)];
      const perRow = ((end - start) * (blockEnd - start + tables.cols)) / 8; // as above, and a distance per entry
      inParts(core, w.rows, perRow, (kernels, i, n) =>
        kernels.obsSweepTable(
          wAt + i * step(w),
          step(w),
          uAt,
          step(u),
          e + i * step(errors),
          step(errors),
          c + i * codes.stride,
          codes.stride,
          t + i * step(tables),
          step(tables),
          tables.cols,
          n,
          start,
          end,
          blockEnd,
        ),
      );
    },

    linear: (out, x, w) => linear(core, out, x, w),
    embedding: (out, w, ids) => embedding(core, out, w, ids),
    rmsNorm: (out, x, weight, eps) => {
      const [to, from, by] = [f32(out), f32(x), f32(weight)];
      inParts(core, x.rows, x.cols, (kernels, i, n) =>
        kernels.rmsNorm(to + i * step(out), step(out), from + i * step(x), step(x), by, n, x.cols, eps),
      );
    },
    rope: (x, cos, sin, headDim, interleaved, position) => {
      const [at, c, s] = [f32(x), f32(cos) + position * step(cos), f32(sin) + position * step(sin)];
      const kind = interleaved ? 1 : 0;
      inParts(core, x.rows, x.cols, (kernels, i, n) =>
        kernels.rope(
          at + i * step(x),
          step(x),
          c + i * step(cos),
          step(cos),
          s + i * step(sin),
          step(sin),
          n,
          x.cols / headDim,
          headDim,
          cos.cols,
          kind,
        ),
      );
    },
    attention: (out, q, k, v, opts) => attention(core, out, q, k, v, opts),
    glu: (out, gate, up, activation) => {
      const kernel = activation === 'silu' ? 'gluSilu' : 'gluGelu';
      const [to, g, p] = [f32(out), f32(gate), f32(up)];
      inParts(core, out.rows, out.cols, (kernels, i, n) =>
        kernels[kernel](to + i * step(out), step(out), g + i * step(gate), step(gate), p + i * step(up), step(up), n, out.cols),
      );
    },
    softmax: (out, x) => {
      const [to, from] = [f32(out), f32(x)];
      inParts(core, x.rows, x.cols, (kernels, i, n) =>
        kernels.softmax(to + i * step(out), step(out), from + i * step(x), step(x), n, x.cols),
      );
    },
  };
}
