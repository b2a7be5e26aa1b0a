// Round to nearest, which every other method is compared with: 4 bits, a scale for each 64 columns, no text to calibrate on.
// Prints perplexity before and after, bits per weight, and size.
import { parseRecipe } from '@lmq/pipeline';
import { quantizeModel } from '@lmq/pipeline/node';
import { backend, model, place, show } from './_nano.mjs';

const recipe = parseRecipe({ stages: [{ method: 'rtn', bits: 4, groupSize: 64 }] });
const output = place('rtn');
await quantizeModel(model, { backend, recipe, output });
await show(output);
