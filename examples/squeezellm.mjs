// SqueezeLLM: each row has a table of 8 values of its own, the best for what its weights count; the largest weights are kept apart.
// Prints how many weights those are, perplexity before and after, bits per weight, and size.
import { parseRecipe } from '@lmq/pipeline';
import { quantizeModel } from '@lmq/pipeline/node';
import { backend, calibration, model, place, show } from './_nano.mjs';

const recipe = parseRecipe({ stages: [{ method: 'squeezellm', bits: 3, sparse: 0.0045 }] });
const output = place('squeezellm');
const { layers } = await quantizeModel(model, { backend, recipe, calibration, output });
console.log(`${layers.reduce((n, l) => n + l.outliers, 0)} of ${layers.reduce((n, l) => n + l.weights, 0)} weights kept apart`);
await show(output);
