// Four methods in one recipe: AWQ scales channels, GPTQ rounds to 4 bits, the values of attention get 8, and inputs are int8 at run time.
// Prints perplexity before and after, bits per weight, and size. An lmq folder holds any such mixture.
import { parseRecipe } from '@lmq/pipeline';
import { quantizeModel } from '@lmq/pipeline/node';
import { backend, calibration, model, place, show } from './_nano.mjs';

const recipe = parseRecipe({
  stages: [
    { method: 'awq', clip: false },
    { method: 'gptq', bits: 4, groupSize: 64, input: 'int8-token' },
  ],
  overrides: [{ match: '*v_proj', bits: 8 }],
  export: 'lmq',
});
const output = place('composed');
await quantizeModel(model, { backend, recipe, calibration: calibration.slice(0, 1), output });
await show(output);
