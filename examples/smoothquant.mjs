// SmoothQuant, W8A8: weights and inputs in 8 bits, multiplied in integers. What makes some channels of the inputs large moves to the weights.
// Prints perplexity with scales of inputs found at run time for each token, and with fixed ones from calibration.
import { parseRecipe } from '@lmq/pipeline';
import { quantizeModel } from '@lmq/pipeline/node';
import { backend, calibration, model, place, show } from './_nano.mjs';

for (const input of ['int8-token', 'int8-static']) {
  const recipe = parseRecipe({
    stages: [
      { method: 'smoothquant', alpha: 0.5 },
      { method: 'rtn', bits: 8, symmetric: true, preset: 'smoothquant', input },
    ],
  });
  const output = place(input);
  await quantizeModel(model, { backend, recipe, calibration, output });
  console.log(input);
  await show(output);
}
