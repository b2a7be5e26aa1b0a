// HQQ: moves the zero point of each group until most of its weights are right. Needs no text, and takes seconds.
// Prints perplexity, bits per weight and size at 4 and 3 bits; the folders are those of HQQ.
import { parseRecipe } from '@lmq/pipeline';
import { quantizeModel } from '@lmq/pipeline/node';
import { backend, model, place, show } from './_nano.mjs';

for (const bits of [4, 3]) {
  const recipe = parseRecipe({ stages: [{ method: 'hqq', bits, groupSize: 64 }], export: 'hqq' });
  const output = place(`hqq-${bits}`);
  await quantizeModel(model, { backend, recipe, output });
  await show(output);
}
