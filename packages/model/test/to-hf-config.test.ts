import { isLmqError } from '@lmq/tensor';
import { describe, expect, it } from 'vitest';
import {
  type Architecture,
  ggufModel,
  parseGgufConfig,
  parseHfConfig,
  ropeFrequencies,
  toHfConfig,
  tokenizerFilesFromGguf,
} from '../src/index.js';
import { CASES, readCase } from './_families.js';

const metadata = new Map<string, unknown>([
  ['general.architecture', 'llama'],
  ['llama.context_length', 128],
  ['llama.embedding_length', 64],
  ['llama.block_count', 2],
  ['llama.feed_forward_length', 160],
  ['llama.attention.head_count', 4],
  ['llama.attention.head_count_kv', 2],
  ['llama.attention.layer_norm_rms_epsilon', Math.fround(1e-5)],
  ['llama.rope.freq_base', 500000],
  ['llama.vocab_size', 100],
]);
const parse = (more: [string, unknown][] = [], tied = false) =>
  parseGgufConfig(
    new Map([...metadata, ...more]),
    (n) => n !== 'rope_freqs.weight' && !n.endsWith('.bias') && !(tied && n === 'output.weight'),
  );

describe('toHfConfig', () => {
  it.each([
    ['llama', [], false],
    ['tied', [], true],
    [
      'mixtral',
      [
        ['llama.expert_count', 4],
        ['llama.expert_used_count', 2],
      ],
      false,
    ],
  ] as const)('%s: read again, it is the same architecture', (_, more, tied) => {
    const a = parse([...more] as [string, unknown][], tied);
    const config = toHfConfig(a, { dtype: 'bf16', bos: 1, eos: [2] });
    const b = parseHfConfig(config, () => true);
    const facts = ({ norm, rope, tensors: _t, sites: _s, warnings: _w, ...rest }: Architecture) => ({
      ...rest,
      theta: rope.theta,
      eps: Math.fround(norm.eps),
    });
    expect(facts(b)).toEqual(facts(a));
    expect(b.sites.map((s) => s.name)).toEqual(a.sites.map((s) => s.name));
    expect(config).toMatchObject({ rms_norm_eps: 1e-5, torch_dtype: 'bfloat16', bos_token_id: 1, eos_token_id: 2 });
  });

  it('says which linears have a bias, all of a kind or none', () => {
    const a = parse();
    const withBias = (roles: string[]) => ({
      ...a,
      sites: a.sites.map((s) => (roles.includes(s.role) ? { ...s, bias: `${s.name}.bias` } : s)),
    });
    const config = toHfConfig(withBias(['q', 'k', 'v', 'o']), { dtype: 'fp16' });
    expect(config).toMatchObject({ attention_bias: true, mlp_bias: false });
    expect(
      parseHfConfig(config, () => true)
        .sites.filter((s) => s.bias)
        .map((s) => s.role),
    ).toEqual(['q', 'k', 'v', 'o', 'q', 'k', 'v', 'o']);
    expect(() => toHfConfig(withBias(['q', 'k', 'v']), { dtype: 'fp16' })).toThrow(/which linears have a bias/);
  });

  // GGUF cannot say that the ends of the ramp of YaRN are not rounded, as they are not in llama-yarn-mscale
  it.each(CASES.filter((name) => name !== 'llama-yarn-mscale'))('%s: through the key-values of a GGUF file and back', (name) => {
    const golden = readCase(name);
    const a = parseHfConfig(golden.config, (t) => Object.hasOwn(golden.tensors, t));
    const { metadata: entries, extra } = ggufModel(a, { fileType: 'f32' });
    const biased = new Set(a.sites.filter((s) => s.bias).map((s) => s.role));
    const biases = { attn_q: 'q', attn_k: 'k', attn_v: 'v', attn_output: 'o', ffn_gate: 'gate', ffn_up: 'up', ffn_down: 'down' } as const;
    const file = parseGgufConfig(
      new Map(entries.map((e) => [e.key, e.value])),
      (t) => {
        if (t === 'rope_freqs.weight') return extra.length > 0;
        if (t.startsWith('rope_factors')) return false;
        const bias = /\.(\w+)\.bias$/.exec(t)?.[1];
        return bias === undefined ? !(a.tied && t === 'output.weight') : biased.has(biases[bias as keyof typeof biases]);
      },
      extra[0]?.data,
    );
    const b = parseHfConfig(toHfConfig(file, { dtype: 'fp32' }), (t) => !(a.tied && t === 'lm_head.weight'));
    const facts = ({ family, norm, rope, attention, tensors, sites, warnings: _, ...rest }: Architecture) => ({
      ...rest,
      family: family === 'mistral' ? 'llama' : family, // GGUF has one name for both
      norm: { ...norm, eps: Math.fround(norm.eps) },
      rope: { style: rope.style, rotary: rope.rotary, local: rope.local?.theta },
      windows: attention.windows.map((w) => (w !== null && w >= file.context ? null : w)), // files end where the window does
      tensors,
      sites,
    });
    const frequencies = ({ rope }: Architecture) => [...ropeFrequencies(rope, rope.rotary).frequencies].map(Math.fround);
    const scale = name.startsWith('gemma3') ? a.attention.scale / file.attention.scale : 1; // in the norm of the queries, in the file
    expect(facts(b)).toEqual({ ...facts(a), context: b.context });
    expect(a.context).toBeGreaterThanOrEqual(b.context);
    expect(b.attention.scale * scale).toBeCloseTo(a.attention.scale, 12);
    for (const [i, f] of frequencies(b).entries()) expect(Math.abs(f / frequencies(a)[i]! - 1)).toBeLessThan(2 ** -22);
    expect(ropeFrequencies(b.rope, b.rope.rotary).magnitude).toBeCloseTo(ropeFrequencies(a.rope, a.rope.rotary).magnitude, 6);
  });

  it.each([
    ['an unknown family', { family: 'mamba' }],
    ['queries without a bias in Qwen 2', { family: 'qwen2' }],
    [
      'factors of positions that are not those of Llama 3',
      { rope: { theta: 1e4, style: 'half', rotary: 16, scaling: { type: 'factors', factors: [1, 2, 1, 4, 4, 4, 4, 4] } } },
    ],
    ['half a head turned', { rope: { theta: 1e4, style: 'half', rotary: 8 } }],
    ['a window in Llama', { attention: { scale: 0.25, windows: [null, 16] } }],
  ] as const)('refuses %s', (_, change) => {
    const attempt = () => toHfConfig({ ...parse(), ...(change as Partial<Architecture>) }, { dtype: 'fp16' });
    expect(attempt).toThrow(/original model/);
    try {
      attempt();
    } catch (e) {
      expect(isLmqError(e) && e.code).toBe('export/unsupported');
    }
  });
});

describe('tokenizerFilesFromGguf', () => {
  const gpt2 = new Map<string, unknown>([
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', 'gpt-2'],
    ['tokenizer.ggml.tokens', ['<s>', 'a', 'b', 'ab', '</s>', '<end>']],
    ['tokenizer.ggml.token_type', [3, 1, 1, 1, 3, 3]],
    ['tokenizer.ggml.merges', ['a b']],
    ['tokenizer.ggml.bos_token_id', 0],
    ['tokenizer.ggml.eos_token_id', 4],
    ['tokenizer.ggml.eot_token_id', 5],
    ['tokenizer.chat_template', '{{ messages }}'],
  ]);
  it('adds the begin token where the model wants one', () => {
    const files = tokenizerFilesFromGguf(gpt2) as Record<string, Record<string, unknown>>;
    expect(files['tokenizer.json']!.post_processor).toMatchObject({ type: 'TemplateProcessing', special_tokens: { '<s>': { ids: [0] } } });
    expect(files['tokenizer_config.json']).toMatchObject({
      bos_token: '<s>',
      eos_token: '</s>',
      add_bos_token: true,
      chat_template: '{{ messages }}',
    });
    expect(files['generation_config.json']).toEqual({ bos_token_id: 0, eos_token_id: [4, 5] });
    const without = tokenizerFilesFromGguf(new Map([...gpt2, ['tokenizer.ggml.add_bos_token', false]])) as typeof files;
    expect(without['tokenizer.json']!.post_processor).toBeNull();
    expect(without['tokenizer_config.json']!.add_bos_token).toBe(false);
  });
});
