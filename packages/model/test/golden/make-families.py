"""Makes families/*.json: logits of tiny random models of every family, and chat.json: rendered chat templates, both by Hugging Face transformers
(written with 5.17, torch 2.11). Weights are not stored: a linear congruential generator seeded by the tensor's name makes them again.

    python make-families.py OUT      (writes OUT/<case>.json and OUT/chat.json)

Models run in float64 with eager attention; transformers itself computes norms, softmax and rotation angles in float32.
"""
import json, os, sys, tempfile
import numpy as np

LLAMA = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=64,
    max_position_embeddings=256, rms_norm_eps=1e-5, hidden_act='silu', tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, dtype='float32')
def llama(model_type='llama', architecture='LlamaForCausalLM', **more): return {**LLAMA, 'model_type': model_type, 'architectures': [architecture], **more}
GEMMA = {**llama('gemma3_text', 'Gemma3ForCausalLM', num_hidden_layers=4, rms_norm_eps=1e-6, tie_word_embeddings=True, sliding_window=8,
    hidden_activation='gelu_pytorch_tanh', query_pre_attn_scalar=24, sliding_window_pattern=2, rope_theta=1000000.0, rope_local_base_freq=10000.0,
    attn_logit_softcapping=None, final_logit_softcapping=None, attention_bias=False, bos_token_id=2, eos_token_id=1, pad_token_id=0)}
del GEMMA['hidden_act']
YARN = dict(rope_type='yarn', factor=4.0, original_max_position_embeddings=64)

CASES = {
    'llama3': llama(rope_theta=100.0, rope_scaling=dict(rope_type='llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)),
    'llama-linear-biases': llama(rope_theta=100.0, rope_scaling=dict(type='linear', factor=4.0), attention_bias=True, mlp_bias=True),
    'llama-yarn': llama(rope_theta=100.0, rope_scaling=YARN),
    'llama-yarn-mscale': llama(rope_theta=100.0, rope_scaling=dict(YARN, mscale=1.0, mscale_all_dim=0.5, beta_fast=4.0, beta_slow=0.5, truncate=False)),
    'llama-yarn-factor': llama(rope_theta=100.0, rope_scaling=dict(YARN, attention_factor=1.25, beta_fast=4.0)),
    'mistral': llama('mistral', 'MistralForCausalLM', rope_theta=10000.0, sliding_window=8),
    'mixtral': llama('mixtral', 'MixtralForCausalLM', rope_theta=1000000.0, sliding_window=6, num_local_experts=4, num_experts_per_tok=2),
    'qwen2': {k: v for k, v in llama('qwen2', 'Qwen2ForCausalLM', num_hidden_layers=3, rope_theta=1000000.0, tie_word_embeddings=True,
        use_sliding_window=True, sliding_window=8, max_window_layers=1).items() if k != 'head_dim'},
    'qwen3': llama('qwen3', 'Qwen3ForCausalLM', rope_theta=1000000.0, tie_word_embeddings=True, attention_bias=False, use_sliding_window=False,
        sliding_window=None, max_window_layers=2),
    'gemma3': GEMMA,
    'gemma3-linear': {**GEMMA, 'rope_scaling': dict(rope_type='linear', factor=8.0)},
    'phi3': {k: v for k, v in llama('phi3', 'Phi3ForCausalLM', rope_theta=10000.0, sliding_window=8, rope_scaling=None,
        original_max_position_embeddings=256, attention_bias=False, pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0).items() if k != 'head_dim'},
    'phi3-partial': {k: v for k, v in llama('phi3', 'Phi3ForCausalLM', rope_theta=10000.0, sliding_window=None, rope_scaling=None,
        original_max_position_embeddings=256, attention_bias=False, pad_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, partial_rotary_factor=0.5).items() if k != 'head_dim'},
}

def shapes(c):
    h, ff, family = c['hidden_size'], c['intermediate_size'], c['model_type']
    hd = c.get('head_dim') or h // c['num_attention_heads']
    q, kv = c['num_attention_heads'] * hd, c['num_key_value_heads'] * hd
    t = {'model.embed_tokens.weight': [c['vocab_size'], h], 'model.norm.weight': [h]}
    if not c['tie_word_embeddings']: t['lm_head.weight'] = [c['vocab_size'], h]
    for l in range(c['num_hidden_layers']):
        at = f'model.layers.{l}.'
        norms = ['input_layernorm', 'post_attention_layernorm']
        if family == 'gemma3_text': norms += ['pre_feedforward_layernorm', 'post_feedforward_layernorm']
        for n in norms: t[f'{at}{n}.weight'] = [h]
        if family == 'phi3': t[at + 'self_attn.qkv_proj.weight'] = [q + 2 * kv, h]
        else:
            for n, rows in (('q', q), ('k', kv), ('v', kv)):
                t[f'{at}self_attn.{n}_proj.weight'] = [rows, h]
                if family == 'qwen2' or c.get('attention_bias'): t[f'{at}self_attn.{n}_proj.bias'] = [rows]
        t[at + 'self_attn.o_proj.weight'] = [h, q]
        if c.get('attention_bias'): t[at + 'self_attn.o_proj.bias'] = [h]
        if family in ('qwen3', 'gemma3_text'):
            for n in ('q_norm', 'k_norm'): t[f'{at}self_attn.{n}.weight'] = [hd]
        if family == 'mixtral':
            t[at + 'block_sparse_moe.gate.weight'] = [c['num_local_experts'], h]
            for e in range(c['num_local_experts']):
                for n in ('w1', 'w2', 'w3'): t[f'{at}block_sparse_moe.experts.{e}.{n}.weight'] = [h, ff] if n == 'w2' else [ff, h]
        elif family == 'phi3':
            t[at + 'mlp.gate_up_proj.weight'], t[at + 'mlp.down_proj.weight'] = [2 * ff, h], [h, ff]
        else:
            for n in ('gate', 'up', 'down'):
                t[f'{at}mlp.{n}_proj.weight'] = [h, ff] if n == 'down' else [ff, h]
                if c.get('mlp_bias'): t[f'{at}mlp.{n}_proj.bias'] = [h if n == 'down' else ff]
    return t

def lcg(text, n):
    """n numbers in [-1/2, 1/2) with 24 bits: s <- 1664525 s + 1013904223 mod 2^32 from the FNV-1a hash of the text."""
    s = 2166136261
    for byte in text.encode(): s = ((s ^ byte) * 16777619) & 0xffffffff
    out = np.empty(n)
    for i in range(n):
        s = (1664525 * s + 1013904223) & 0xffffffff
        out[i] = (s >> 8) / 2**24 - 0.5
    return out

def weight(name, shape, family):
    u = lcg(name, int(np.prod(shape)))
    if 'norm' in name: x = u / 2 + (0 if family == 'gemma3_text' else 1)
    elif 'embed_tokens' in name: x = 2 * u
    elif name.endswith('block_sparse_moe.gate.weight'): x = 4 * u
    else: x = u
    return x.astype(np.float32).reshape(shape)

def main(out):
    import torch, transformers
    from safetensors.numpy import save_file
    from transformers import AutoConfig, AutoModelForCausalLM
    torch.set_grad_enabled(False)
    print(transformers.__version__, torch.__version__)
    failed = []
    for name, config in CASES.items():
        try:
            tensors = shapes(config)
            with tempfile.TemporaryDirectory() as folder:
                json.dump(config, open(os.path.join(folder, 'config.json'), 'w'))
                save_file({k: weight(k, s, config['model_type']) for k, s in tensors.items()}, os.path.join(folder, 'model.safetensors'), {'format': 'pt'})
                model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation='eager', output_loading_info=True)
                if hasattr(model, 'set_experts_implementation'): model.set_experts_implementation('eager')
                current = AutoConfig.from_pretrained(folder).to_diff_dict()
            assert not any(info.get(k) for k in ('missing_keys', 'unexpected_keys', 'mismatched_keys', 'error_msgs', 'conversion_errors')), info
            assert next(model.parameters()).dtype == torch.float64
            ids = [int((u + 0.5) * 64) for u in lcg('ids of ' + name, 24)]
            logits = model.eval()(input_ids=torch.tensor([ids])).logits[0].double().numpy()
            print(name, type(model).__name__, 'spread', float(logits.std()), 'largest', float(abs(logits).max()))
            with open(os.path.join(out, name + '.json'), 'w') as f:
                json.dump({'note': f'transformers {transformers.__version__}, made by make-families.py', 'config': config, 'current': json.loads(json.dumps(current, default=str)),
                    'tensors': tensors, 'ids': ids, 'logits': [round(float(x), 6) for x in logits.ravel()]}, f, separators=(',', ':'))
        except Exception:
            import traceback
            failed.append(name); traceback.print_exc()
    print('failed:', failed)

CHATML = """{%- if tools %}{{ '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
INST = """{%- set ns = namespace(first=true) %}{{ bos_token }}{% for m in messages %}
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{% if m.role == 'user' %}
[INST] {{ m.content }} [/INST]
{%- elif m.role == 'assistant' %}
 {{ m.content | trim }}{{ eos_token }}
{%- endif %}
{% endfor %}
"""
HEADERS = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}{% else %}{% set system = none %}{% endif %}
{%- macro turn(role, text) %}{{ '<' ~ role ~ '>' }}
{{ text }}</turn>{% endmacro %}
{%- if system is not none %}{{ turn('system', system | upper) }}{% endif %}
{%- for m in messages %}{{ turn(m.role, m.content) }}{% if not loop.last %}|{% endif %}{%- endfor %}
{%- if enable_thinking is defined and enable_thinking %}<think>{% endif %}"""
CHATS = {
    'chatml': (CHATML, [dict(role='system', content='Be brief.'), dict(role='user', content='  Hi & <b> ')], dict(add_generation_prompt=True)),
    'chatml-tools': (CHATML, [dict(role='user', content='Hi')], dict(tools=[dict(name='add', about='a < b & "c"', n=[1, 2.5, None, True])])),
    'inst': (INST, [dict(role='user', content='Hi'), dict(role='assistant', content=' Hello. '), dict(role='user', content='Why?')], {}),
    'headers': (HEADERS, [dict(role='system', content='brief'), dict(role='user', content='Hi'), dict(role='assistant', content='Ho')], dict(enable_thinking=True)),
    'headers-plain': (HEADERS, [dict(role='user', content='Naïve 漢字 😀')], {}),
}

def chats(out):
    from transformers.utils.chat_template_utils import render_jinja_template
    done = []
    for name, (template, messages, opts) in CHATS.items():
        opts = dict(opts); tools = opts.pop('tools', None)
        text, _ = render_jinja_template([messages], tools=tools, chat_template=template, bos_token='<s>', eos_token='</s>', **opts)
        done.append(dict(name=name, template=template, messages=messages, opts={**opts, **({'tools': tools} if tools else {})}, text=text[0]))
    json.dump(done, open(os.path.join(out, 'chat.json'), 'w'), indent=1, ensure_ascii=False)

if __name__ == '__main__':
    main(sys.argv[1])
    chats(sys.argv[1])
