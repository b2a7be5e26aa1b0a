// An ONNX model that runs anywhere ONNX Runtime does, browsers too: quantized linears are the operator MatMulNBits.
// Prints the formats of its tensors, and its size beside that of the original.
import { parseRecipe } from '@lmq/pipeline';
import { describeFormat, openInspectable, quantizeModel } from '@lmq/pipeline/node';
import { backend, model, place } from './_nano.mjs';

const recipe = parseRecipe({ stages: [{ method: 'rtn', bits: 4, groupSize: 32, symmetric: true }], export: 'onnx' });
const output = place('onnx-folder');
const { bytes, notes } = await quantizeModel(model, { backend, recipe, output });
const onnx = await openInspectable(`${output}/onnx/model_q4.onnx`);
const { formats } = await describeFormat(onnx);
await onnx.close();
for (const { format, tensors, bytes } of formats) console.log(`${tensors} tensors ${format}, ${(bytes / 1e6).toFixed(2)} MB`);
for (const note of notes) console.log(note);
console.log(`${(bytes / 1e6).toFixed(2)} MB`);
