import { NANO_MODELS } from '@lmq/nano';
import { describe, expect, it } from 'vitest';
import { type ChatMessage, createTokenizer, renderChat } from '../src/index.js';
import { readJson } from './_support.js';

interface Golden {
  name: string;
  template: string;
  messages: ChatMessage[];
  opts: Record<string, unknown>;
  text: string;
}
const GOLDEN: Golden[] = readJson(new URL('golden/chat.json', import.meta.url)); // rendered by transformers: see golden/make-families.py
const specialTokens = { bos_token: '<s>', eos_token: '</s>' };
const user = (content: string): ChatMessage => ({ role: 'user', content });
const HI = [user('Hi')];

describe('renderChat', () => {
  it.each(GOLDEN)('$name: the text that transformers writes', ({ template, messages, opts, text }) => {
    const {
      add_generation_prompt: addGenerationPrompt,
      tools,
      ...variables
    } = opts as { add_generation_prompt?: boolean; tools?: unknown[] };
    expect(renderChat(template, messages, { addGenerationPrompt, tools, variables, specialTokens })).toBe(text);
  });

  it('passes on what a template says against the messages', () => {
    const inst = GOLDEN.find(({ name }) => name === 'inst')!.template;
    const render = () => renderChat(inst, [user('Hi'), user('Again')], { specialTokens });
    expect(render).toThrow(expect.objectContaining({ code: 'argument/value' }));
    expect(render).toThrow(/refuses.*roles must alternate/s);
  });

  it('chooses among named templates', () => {
    const list = [
      { name: 'default', template: 'plain' },
      { name: 'tool_use', template: 'tools' },
      { name: 'rag', template: 'documents' },
    ];
    expect(renderChat(list, HI)).toBe('plain');
    expect(renderChat(list, HI, { tools: [] })).toBe('tools');
    expect(renderChat(list.slice(0, 1), HI, { tools: [] })).toBe('plain');
    expect(renderChat(list, HI, { name: 'rag' })).toBe('documents');
    expect(() => renderChat(list, HI, { name: 'other' })).toThrow(/default, tool_use, rag.*other/s);
    for (const none of [[], null, 3, [{ name: 'default' }]])
      expect(() => renderChat(none, HI)).toThrow(expect.objectContaining({ code: 'argument/option' }));
    expect(() => renderChat('x', HI, { name: 'rag' })).toThrow(expect.objectContaining({ code: 'argument/option' }));
  });

  it('writes dates', () => {
    const now = new Date(Date.UTC(2024, 6, 6, 15, 4, 5)); // a Saturday
    const date = (format: string) => renderChat(`{{ strftime_now('${format}') }}`, HI, { now });
    expect(date('%d %b %Y')).toBe('06 Jul 2024');
    expect(date('%A %B %y-%m %H:%M:%S %I%p 100%%')).toBe('Saturday July 24-07 15:04:05 03PM 100%');
    expect(() => date('%Q')).toThrow(/strftime code %Q/);
  });

  it('refuses what it cannot read', () => {
    for (const bad of ['{% if %}', '{{ messages', '{% for m in messages %}', ' '.repeat(2 ** 20 + 1)])
      expect(() => renderChat(bad, HI)).toThrow(expect.objectContaining({ code: 'tokenizer/unsupported' }));
  });

  it('gives templates nothing of the host, and no way to fill the memory', () => {
    for (const bad of [
      "{{ messages.constructor.constructor('return 1')() }}",
      "{{ ''.constructor.constructor('return 1')() }}",
      '{{ range.constructor() }}',
      '{{ process.exit() }}',
      '{% for i in range(1000000000) %}x{% endfor %}',
      '{% for i in range(0, 5, 0) %}x{% endfor %}',
      '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}',
      '{% set r = range(100000) %}{% for i in r %}{% for j in r %}{{ j }}{% endfor %}{% endfor %}',
      `{% set ns = namespace(x='abcdefgh') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}`,
      '{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}',
    ]) {
      expect(() => renderChat(bad, HI)).toThrow(expect.objectContaining({ code: 'argument/value' }));
    }
    const long = Array.from({ length: 600 }, (_, i) => user(`turn ${i}`)); // what people have fits the bounds
    expect(renderChat('{% for m in messages %}{{ messages[loop.index0].content ~ messages | length }}{% endfor %}', long).length).toBe(
      6490,
    );
    expect(renderChat('{% for i in range(3, 0, -1) %}{{ i }}{% endfor %}{{ range(2) | length }}', HI)).toBe('3212');
    expect(renderChat('{{ __proto__ or toString or globalThis or "nothing" }}', HI)).toBe('nothing');
  });
});

describe('chat of a tokenizer', () => {
  const nano = readJson(new URL('tokenizer.json', NANO_MODELS['lmq-nano'].folder));
  const template =
    '{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}';
  const config = { bos_token: { content: '<|begin|>' }, chat_template: template };

  it('gives ids, the begin token once', () => {
    const t = createTokenizer(nano, config);
    const ids = t.chat!(HI, { addGenerationPrompt: true });
    expect(ids).toEqual(t.encode('user: Hi\nassistant:', { bos: true }));
    expect(ids.filter((id) => id === t.bos).length).toBe(1);
  });

  it('takes the text of chat_template.jinja before the configuration', () => {
    const t = createTokenizer(nano, config, {}, 'other');
    expect(t.chat!(HI)).toEqual(t.encode('other'));
  });

  it('is absent without a template', () => {
    expect(createTokenizer(nano).chat).toBeUndefined();
    expect(createTokenizer(nano, { chat_template: null }).chat).toBeUndefined();
  });
});
