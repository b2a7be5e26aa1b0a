// A GGUF file for llama.cpp: the mixture Q4_K_M, whose sensitive tensors have more bits, and one tensor changed by hand.
// Prints how many tensors have which type, perplexity before and after, bits per weight, and size.
import { parseRecipe } from '@lmq/pipeline';
import { openModel, quantizeModel } from '@lmq/pipeline/node';
import { backend, model, place, show } from './_nano.mjs';

const recipe = parseRecipe({
  export: 'gguf:q4_k_m',
  overrides: [{ match: '*.layers.0.mlp.down_proj', type: 'Q8_0' }],
});
const output = place('nano.gguf');
await quantizeModel(model, { backend, recipe, output });
const { checkpoint, close } = await openModel(output);
const types = {};
for (const { format } of checkpoint.tensors.values()) types[format] = (types[format] ?? 0) + 1;
await close();
console.log(types);
await show(output);
