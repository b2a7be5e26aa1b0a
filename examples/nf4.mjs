// NF4 of QLoRA, its scales quantized too, as a folder that transformers loads with bitsandbytes; then the same format made by GPTQ.
// Prints perplexity, bits per weight and size of both.
import { parseRecipe } from '@lmq/pipeline';
import { quantizeModel } from '@lmq/pipeline/node';
import { backend, calibration, model, place, show } from './_nano.mjs';

const stages = {
  nf4: { method: 'nf4', doubleQuant: true },
  'gptq-nf4': { method: 'gptq', table: 'nf4' },
};
for (const [name, stage] of Object.entries(stages)) {
  const recipe = parseRecipe({ stages: [stage], export: 'bitsandbytes' });
  await quantizeModel(model, { backend, recipe, calibration, output: place(name) });
  console.log(name);
  await show(place(name));
}
