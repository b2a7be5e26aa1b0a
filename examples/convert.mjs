// From one format to another without quantizing again: an AWQ folder becomes one of GPTQ, with the same values.
// Prints what became of the tensors, and that perplexity is the same.
import { parseRecipe } from '@lmq/pipeline';
import { convertModel, openModel, quantizeModel } from '@lmq/pipeline/node';
import { backend, model, place, show } from './_nano.mjs';

const recipe = parseRecipe({ stages: [{ method: 'rtn', bits: 4, groupSize: 64, preset: 'awq' }], export: 'awq' });
await quantizeModel(model, { backend, recipe, output: place('as-awq') });
await show(place('as-awq'));

const awq = await openModel(place('as-awq'));
const { changes } = await convertModel(awq, { export: 'gptq', output: place('as-gptq') });
await awq.close();
const effects = {};
for (const { effect } of changes) effects[effect] = (effects[effect] ?? 0) + 1;
console.log(effects);
await show(place('as-gptq'));
