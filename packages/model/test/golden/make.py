"""Makes tinystories-656K.json and stories260K.json (float64 losses and logits of two small public models) and greedy.json, by the numpy forward pass
that made the golden values of lmq-nano. Needs numpy, and ../shared beside the repository.

    python make.py          (from this folder)

The token ids of the two stories are those already in the files; only the numbers are made anew.
"""
import json, os, struct, sys
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
shared = os.path.join(here, *[os.pardir] * 5, 'shared')
sys.path.insert(0, os.path.join(shared, 'tools'))
from golden_forward import forward, load

def save(name, w, cfg):
    path = os.path.join(here, name + '.json')
    ids = json.load(open(path))['ids']
    lg, _ = forward(w, cfg, np.array(ids))
    m = lg.max(-1, keepdims=True)
    lse = (m + np.log(np.exp(lg - m).sum(-1, keepdims=True)))[:, 0]
    nll = [float(lse[t] - lg[t, ids[t + 1]]) for t in range(len(ids) - 1)]
    json.dump({'note': 'float64 arithmetic on the stored weights; made by make.py', 'ids': ids, 'mean_nll': float(np.mean(nll)),
        'nll': [round(v, 7) for v in nll], 'last_logits': [round(v, 7) for v in lg[-1].tolist()], 'argmax': lg.argmax(-1).tolist()},
        open(path, 'w'))
    print(name, float(np.mean(nll)))

# tinystories-656K: safetensors; the embeddings are stored under the head's name
folder = os.path.join(shared, 'models', 'tinystories-656K')
w = load(os.path.join(folder, 'model.safetensors'))
w['model.embed_tokens.weight'] = w['lm_head.weight']
save('tinystories-656K', w, json.load(open(os.path.join(folder, 'config.json'))))

# stories260K: GGUF version 1 (32-bit counts); rows of Q and K are in the order for interleaved rotation and are put back first
f = open(os.path.join(shared, 'models', 'stories260K', 'stories260K-f32.gguf'), 'rb')
u32 = lambda: struct.unpack('<I', f.read(4))[0]
text = lambda: f.read(u32()).decode('utf8', 'replace')
def value(t):
    if t == 8: return text()
    if t == 9:
        kind = u32()
        return [value(kind) for _ in range(u32())]
    fmt = {0: 'B', 1: 'b', 2: 'H', 3: 'h', 4: 'I', 5: 'i', 6: 'f', 7: '?'}[t]
    return struct.unpack('<' + fmt, f.read(struct.calcsize('<' + fmt)))[0]
assert f.read(4) == b'GGUF' and u32() == 1
tensors, pairs = u32(), u32()
kv = {}
for _ in range(pairs):
    key = text(); kv[key] = value(u32())
infos = []
for _ in range(tensors):
    name = text(); dims = [u32() for _ in range(u32())]; kind = u32(); offset = struct.unpack('<Q', f.read(8))[0]
    assert kind == 0
    infos.append((name, dims[::-1], offset))
align = kv.get('general.alignment', 32)
base = (f.tell() + align - 1) // align * align
raw = {}
for name, shape, offset in infos:
    f.seek(base + offset)
    raw[name] = np.frombuffer(f.read(4 * int(np.prod(shape))), '<f4').astype(np.float64).reshape(shape)
heads, kv_heads = kv['llama.attention.head_count'], kv['llama.attention.head_count_kv']
def unpermute(x, n): return x.reshape(n, x.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)
w = {'model.embed_tokens.weight': raw['token_embd.weight'], 'model.norm.weight': raw['output_norm.weight'], 'lm_head.weight': raw['output.weight']}
names = {'input_layernorm': 'attn_norm', 'post_attention_layernorm': 'ffn_norm', 'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v', 'self_attn.o_proj': 'attn_output', 'mlp.gate_proj': 'ffn_gate', 'mlp.up_proj': 'ffn_up', 'mlp.down_proj': 'ffn_down'}
for l in range(kv['llama.block_count']):
    for to, of in names.items():
        x = raw[f'blk.{l}.{of}.weight']
        w[f'model.layers.{l}.{to}.weight'] = unpermute(x, heads) if of == 'attn_q' else unpermute(x, kv_heads) if of == 'attn_k' else x
save('stories260K', w, {'model_type': 'llama', 'num_attention_heads': heads, 'num_key_value_heads': kv_heads, 'num_hidden_layers': kv['llama.block_count'],
    'hidden_size': kv['llama.embedding_length'], 'rms_norm_eps': kv['llama.attention.layer_norm_rms_epsilon']})

# greedy text of the built-in models in float64. (The greedy text in golden.json of lmq-nano was made with less precise matrix products and
# takes the other side of a near tie at its 31st token, where two logits differ by 0.00016.)
greedy = {}
for name in ('lmq-nano', 'lmq-nano-moe'):
    folder = os.path.join(here, *[os.pardir] * 3, 'nano', 'models', name)
    w, cfg = load(os.path.join(folder, 'model.safetensors')), json.load(open(os.path.join(folder, 'config.json')))
    ids = json.load(open(os.path.join(folder, 'golden.json')))['greedy_ids'][:13]  # "It was a dark and stormy night, and the"
    for _ in range(60): ids.append(int(forward(w, cfg, np.array(ids))[0][-1].argmax()))
    greedy[name] = ids
json.dump(greedy, open(os.path.join(here, 'greedy.json'), 'w'))
