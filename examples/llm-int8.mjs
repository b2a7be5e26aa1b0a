// LLM.int8(): 8-bit weights and inputs, but columns in which an input exceeds the threshold are multiplied in floats. No text to calibrate on.
// Prints perplexity before and after, bits per weight, and size.
import { parseRecipe } from '@lmq/pipeline';
import { quantizeModel } from '@lmq/pipeline/node';
import { backend, model, place, show } from './_nano.mjs';

const recipe = parseRecipe({
  stages: [{ method: 'rtn', bits: 8, symmetric: true, preset: 'smoothquant', input: { kind: 'llm-int8', threshold: 6 } }],
});
const output = place('llm-int8');
await quantizeModel(model, { backend, recipe, output });
await show(output);
