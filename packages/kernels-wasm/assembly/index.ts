/**
 * Everything the JavaScript side may call. Convention of every kernel: pointers and strides are in bytes, counts in elements; the
 * caller has checked that what they span is allocated. No kernel allocates, keeps state (but which thread runs it: work.ts) or calls out.
 * @module
 */
import { ROWS } from './gemm';
import { BYTE_ROWS } from './tileBytes';
import { CODE_ROWS } from './gemmCodes';

export { addCsr } from './addCsr';
export { addTo } from './addTo';
export { attentionRow, attentionScratch, attentionTile } from './attention';
export { choleskySmall, solveSmall } from './cholesky';
export { decodeAffine, decodeBrain, decodeHalf } from './decode';
export { expRow } from './exp';
export { fakeQuant } from './fakeQuant';
export { gemmBlock } from './gemm';
export { gemmBytes } from './gemmBytes';
export { gemmCodes } from './gemmCodes';
export { gemvBrain, gemvFloat, gemvHalf } from './gemv';
export { gemvCodes4, gemvCodes8 } from './gemvCodes';
export { gemvCodesHalves } from './gemvCodesHalves';
export { gemvInt4, prepareInt4 } from './gemvInt4';
export { gemvInt8, prepareInt8 } from './gemvInt8';
export { gemvPanels } from './gemvPanels';
export { decodeTable, gemvTable } from './gemvTable';
export { gluGelu, gluSilu } from './glu';
export { mirror } from './mirror';
export { obsSweep } from './obsSweep';
export { obsSweepTable } from './obsSweepTable';
export { packColumns, packRows } from './pack';
export { decodeBytes, packBytes, packBytesInput, packWideInput, panelSums } from './packBytes';
export { packCodes4, packCodes8, packInput } from './packCodes';
export { dequantizeInput, inputSums, nibbleOrder, quantizeInput } from './quantizeInput';
export { decodeColumns, inputRanges, outlierColumns, quantizeInt8 } from './quantizeInt8';
export { rmsNorm } from './rmsNorm';
export { rope } from './rope';
export { scatterAdd } from './scatterAdd';
export { select } from './select';
export { softmax } from './softmax';
export { triangularInverseSmall } from './triangularInverse';
export { setThread, workBytes } from './work';

/** Rows of gemmBlock's tiles: A is packed in panels of so many. */
export function tileRows(): i32 {
  return ROWS;
}

/** Rows of gemmCodes' tiles. */
export function codeTileRows(): i32 {
  return CODE_ROWS;
}

/** Rows of gemmBytes' tiles. */
export function byteTileRows(): i32 {
  return BYTE_ROWS;
}

/** First byte that the module does not use itself. */
export function heapBase(): usize {
  return __heap_base;
}
