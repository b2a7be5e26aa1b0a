/**
 * The backend in plain TypeScript: the oracle for the others and the default. Everything runs at the call, on the calling thread.
 * Dot products and sums are accumulated in double and stored as float32; grids and the OBS sweep are float32 operation by operation.
 * @module
 */
import { type Backend, defineBackend, type Kernels } from '@lmq/tensor';
import { allocate, copy, type JsBuffer, read, write } from './_memory.js';
import { addTo } from './add-to.js';
import { attention } from './attention.js';
import { cholesky } from './cholesky.js';
import { embedding } from './embedding.js';
import { fakeQuant } from './fake-quant.js';
import { gemm } from './gemm.js';
import { glu } from './glu.js';
import { type LoadedJsLinear, linear, loadLinear } from './linear.js';
import { obsSweep } from './obs-sweep.js';
import { obsSweepTable } from './obs-sweep-table.js';
import { rmsNorm } from './rms-norm.js';
import { rope } from './rope.js';
import { scatterAdd } from './scatter-add.js';
import { select } from './select.js';
import { softmax } from './softmax.js';
import { syrk } from './syrk.js';
import { triangularInverse } from './triangular-inverse.js';

const kernels: Kernels<JsBuffer, LoadedJsLinear> = {
  variant: 'js',
  allocate,
  release() {}, // the garbage collector does
  write,
  read,
  copy,
  async finish() {}, // nothing is queued
  load: loadLinear,
  unload() {},
  gemm,
  syrk,
  cholesky,
  triangularInverse,
  select,
  scatterAdd,
  addTo,
  fakeQuant,
  obsSweep,
  obsSweepTable,
  linear,
  embedding,
  rmsNorm,
  rope,
  attention,
  glu,
  softmax,
};

/** A backend of plain TypeScript, variant `js`. Works wherever JavaScript does. Weights stay compressed. */
export function jsBackend(): Backend {
  return defineBackend(kernels);
}
