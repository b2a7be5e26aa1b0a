// An importance matrix: how large the inputs of each column are over some text. Low-bit GGUF types round important columns more carefully.
// Prints perplexity, bits per weight and size of Q2_K without it and with it.
import { parseRecipe } from '@lmq/pipeline';
import { calibrateModel, openImportanceFile, quantizeModel } from '@lmq/pipeline/node';
import { backend, calibration, model, place, show } from './_nano.mjs';

const matrix = place('imatrix.gguf'); // llama.cpp reads it too
await calibrateModel(model, { backend, calibration, output: matrix, format: 'imatrix' });
const importance = await openImportanceFile(matrix, model);
const recipe = parseRecipe({ export: 'gguf:q2_k' });
for (const [name, opts] of Object.entries({ without: {}, with: { importance } })) {
  const output = place(`${name}.gguf`);
  await quantizeModel(model, { backend, recipe, output, ...opts });
  console.log(name);
  await show(output);
}
