// AWQ: before rounding, channels that carry large inputs are scaled up, and their producers down; then weights are clipped.
// Prints how the first block was scaled, perplexity before and after, bits per weight, and size.
import { parseRecipe } from '@lmq/pipeline';
import { quantizeModel } from '@lmq/pipeline/node';
import { backend, calibration, model, place, show } from './_nano.mjs';

const recipe = parseRecipe({
  stages: [{ method: 'awq' }, { method: 'rtn', bits: 3, groupSize: 64, preset: 'awq' }],
});
const output = place('awq');
const { equalized } = await quantizeModel(model, { backend, recipe, calibration: calibration.slice(0, 1), output });
for (const { from, ratio, error, plainError } of equalized[0].pairs) {
  console.log(`${from}: ratio ${ratio}, error ${plainError.toExponential(2)} → ${error.toExponential(2)}`);
}
await show(output);
