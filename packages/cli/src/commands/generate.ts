/**
 * `lmq generate`: a quick look at what a model says.
 * @module
 */
import { generate, loadModel, type Tokenizer } from '@lmq/model';
import { openModel } from '@lmq/pipeline/node';
import { type Activations, LmqError } from '@lmq/tensor';
import type { Command } from 'commander';
import { addNonFinite, type NonFiniteFlags, watchNonFinite } from '../non-finite.js';
import { addActivations, addBackend, type BackendFlags, integer, makeBackend, number } from '../options.js';
import type { Context } from '../run.js';

interface Flags extends BackendFlags, NonFiniteFlags {
  prompt: string;
  maxTokens: number;
  temperature: number;
  topK?: number;
  topP?: number;
  seed: number;
  bos: boolean;
  chat?: boolean;
  activations: Activations;
}

export function addGenerate(lmq: Command, cli: Context): void {
  const { terminal, signal } = cli;
  const command = lmq
    .command('generate <model>')
    .description('continue a prompt')
    .requiredOption('-p, --prompt <text>', 'text to continue')
    .option('-n, --max-tokens <n>', 'tokens to generate', integer, 100)
    .option('--temperature <t>', '0: always the most likely token', number, 0)
    .option('--top-k <n>', 'sample among the k most likely tokens', integer)
    .option('--top-p <p>', 'sample among the most likely tokens that share this much probability', number)
    .option('--seed <n>', 'seed of sampling', integer, 0)
    .option('--chat', 'treat the prompt as a message, in the form that the model was trained to answer')
    .option('--no-bos', 'no beginning-of-text token before the prompt, even if the model wants one');
  addActivations(command);
  addNonFinite(command);
  addBackend(command).action(async (name: string, flags: Flags) => {
    const opened = await openModel(name);
    try {
      for (const w of opened.warnings) terminal.say(`warning: ${w}`);
      const { tokenizer, checkpoint, architecture } = opened;
      if (!tokenizer)
        throw new LmqError('tokenizer/unsupported', 'the model has no tokenizer', {
          file: name,
          hint: 'Put its tokenizer.json beside config.json.',
        });
      const watch = watchNonFinite(flags, terminal);
      const model = await loadModel({
        activations: flags.activations,
        checkpoint: watch.guard(checkpoint),
        architecture,
        backend: await makeBackend(flags, cli),
        signal,
        onProgress: terminal.progress,
      });
      terminal.finish();
      try {
        const prompt = flags.chat
          ? conversation(tokenizer, flags.prompt)
          : tokenizer.encode(flags.prompt, { bos: flags.bos && tokenizer.addBos });
        const ids: number[] = [];
        const start = performance.now();
        let firstAt = start;
        let shown = '';
        if (!terminal.json && !flags.chat) terminal.out(flags.prompt);
        for await (const id of generate(model, prompt, { ...flags, stop: tokenizer.eos, signal })) {
          if (!ids.length) firstAt = performance.now();
          ids.push(id);
          // Bytes of one character can be spread over tokens: print what is whole.
          const text = tokenizer.decode(ids);
          if (!terminal.json && !text.endsWith('\ufffd')) {
            terminal.out(text.slice(shown.length));
            shown = text;
          }
        }
        const end = performance.now();
        const promptSeconds = (firstAt - start) / 1000;
        const tokensPerSecond = ids.length > 1 ? (ids.length - 1) / ((end - firstAt) / 1000) : 0;
        if (terminal.json)
          return terminal.result({
            text: tokenizer.decode(ids),
            ids,
            promptTokens: prompt.length,
            promptSeconds,
            tokensPerSecond,
            ...watch.facts(),
          });
        terminal.out('\n');
        terminal.say(`${prompt.length} prompt tokens in ${promptSeconds.toFixed(2)} s, then ${tokensPerSecond.toFixed(1)} tokens/s`);
      } finally {
        model.dispose();
      }
    } finally {
      await opened.close();
    }
  });
}

/** The prompt as a conversation of one message, ready for the answer. */
function conversation(tokenizer: Tokenizer, content: string): number[] {
  if (!tokenizer.chat) {
    throw new LmqError('tokenizer/unsupported', 'the model has no chat template', { op: 'generate', hint: 'Leave out --chat.' });
  }
  return tokenizer.chat([{ role: 'user', content }], { addGenerationPrompt: true });
}
