// GPTQ: rounds column by column, and lets the columns after it make up for each error. Written as a GPTQ folder, which vLLM reads.
// Prints perplexity before and after, bits per weight, and size.
import { parseRecipe } from '@lmq/pipeline';
import { quantizeModel } from '@lmq/pipeline/node';
import { backend, calibration, model, place, show } from './_nano.mjs';

const recipe = parseRecipe({
  stages: [{ method: 'gptq', bits: 4, groupSize: 64, symmetric: true, actOrder: true, staticGroups: true }],
  export: 'gptq',
});
const output = place('gptq');
await quantizeModel(model, { backend, recipe, calibration, output });
await show(output);
