"""Per-layer GPTQ losses on lmq-nano, float32 numpy, restated from the published algorithm (IST-DASLab/gptq, gptq.py and quant.py).

Every linear of every block is calibrated on the inputs it has in the *original* model, so that another implementation can be given the
same inputs. Loss = sum (w - q)^2 / (2 d^2), as the reference prints it.

    python tools/golden_gptq.py MODEL_DIR CALIBRATION.json OUT.json        needs numpy only
"""
import json, struct, sys
import numpy as np

f32 = np.float32


def load(path):
    raw = np.memmap(path, dtype=np.uint8, mode='r')
    n = struct.unpack('<Q', bytes(raw[:8]))[0]
    head = json.loads(bytes(raw[8:8 + n]))
    out = {}
    for name, v in head.items():
        if name == '__metadata__': continue
        a, b = v['data_offsets']
        assert v['dtype'] == 'BF16'
        bits = np.array(raw[8 + n + a: 8 + n + b]).view('<u2').astype(np.uint32) << 16
        out[name] = bits.view(f32).reshape(v['shape'])
    return out


def hessians(w, cfg, windows):
    """H = 2/n sum X X^T per linear input, float64 sums of float32-like activations; blocks run on the original weights."""
    heads, kv, layers = cfg['num_attention_heads'], cfg['num_key_value_heads'], cfg['num_hidden_layers']
    hd = cfg.get('head_dim') or cfg['hidden_size'] // heads
    theta, eps = cfg['rope_parameters']['rope_theta'], cfg['rms_norm_eps']
    out = {}
    def add(key, x):
        out[key] = out.get(key, 0) + 2 / len(windows) * (x.T @ x)
    rms = lambda x, g: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * g
    for ids in windows:
        t = len(ids)
        ang = np.arange(t)[:, None] * theta ** (-np.arange(0, hd, 2) / hd)[None]
        cos, sin = np.cos(np.concatenate([ang, ang], -1)), np.sin(np.concatenate([ang, ang], -1))
        rot = lambda x: x * cos[:, None] + np.concatenate([-x[..., hd // 2:], x[..., :hd // 2]], -1) * sin[:, None]
        mask = np.triu(np.full((t, t), -np.inf), 1)
        x = w['model.embed_tokens.weight'][ids].astype(np.float64)
        for l in range(layers):
            g = lambda n: w[f'model.layers.{l}.{n}.weight'].astype(np.float64)
            h = rms(x, g('input_layernorm')); add((l, 'qkv'), h)
            q, k, v = ((h @ g(f'self_attn.{n}_proj').T).reshape(t, -1, hd) for n in 'qkv')
            q, k = rot(q), rot(k)
            k, v = np.repeat(k, heads // kv, 1), np.repeat(v, heads // kv, 1)
            s = np.einsum('thd,shd->hts', q, k) / np.sqrt(hd) + mask
            s = np.exp(s - s.max(-1, keepdims=True)); s /= s.sum(-1, keepdims=True)
            a = np.einsum('hts,shd->thd', s, v).reshape(t, -1); add((l, 'o'), a)
            x = x + a @ g('self_attn.o_proj').T
            h = rms(x, g('post_attention_layernorm')); add((l, 'mlp'), h)
            gate = h @ g('mlp.gate_proj').T
            m = gate / (1 + np.exp(-gate)) * (h @ g('mlp.up_proj').T); add((l, 'down'), m)
            x = x + m @ g('mlp.down_proj').T
    return out


def find_params(x, bits, sym):
    maxq = f32(2 ** bits - 1)
    lo, hi = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0)
    if sym:
        hi = np.maximum(np.abs(lo), hi)
        lo = np.where(lo < 0, -hi, lo)
    empty = (lo == 0) & (hi == 0)
    lo, hi = np.where(empty, f32(-1), lo), np.where(empty, f32(1), hi)
    scale = ((hi - lo) / maxq).astype(f32)
    zero = np.full_like(scale, (maxq + 1) / 2) if sym else np.round(-lo / scale)
    return scale, zero


def gptq(w, h, bits, sym, groupsize, actorder, static, percdamp=.01, blocksize=128):
    w, h = w.copy(), h.astype(f32)
    rows, cols = w.shape
    maxq = f32(2 ** bits - 1)
    scale, zero = find_params(w, bits, sym)
    dead = np.diag(h) == 0
    h[dead, dead] = 1; w[:, dead] = 0
    groups = [find_params(w[:, i:i + groupsize], bits, sym) for i in range(0, cols, groupsize)] if static else None
    perm = np.argsort(-np.diag(h), kind='stable') if actorder else np.arange(cols)
    w, h = w[:, perm], h[perm][:, perm]
    h = h + np.eye(cols, dtype=f32) * (f32(percdamp) * np.diag(h).mean())
    u = np.linalg.cholesky(np.linalg.inv(h.astype(np.float64))).T.astype(f32)
    loss = 0.0
    for i1 in range(0, cols, blocksize):
        i2 = min(i1 + blocksize, cols)
        w1, err = w[:, i1:i2].copy(), np.zeros((rows, i2 - i1), f32)
        for i in range(i2 - i1):
            if groupsize > 0:
                if static: scale, zero = groups[perm[i1 + i] // groupsize]
                elif (i1 + i) % groupsize == 0: scale, zero = find_params(w[:, i1 + i:i1 + i + groupsize], bits, sym)
            d = u[i1 + i, i1 + i]
            q = scale * (np.clip(np.round(w1[:, i] / scale) + zero, 0, maxq) - zero)
            e = (w1[:, i] - q) / d
            loss += float((e.astype(np.float64) ** 2).sum()) / 2
            w1[:, i:] -= np.outer(e, u[i1 + i, i1 + i:i2])
            err[:, i] = e
        w[:, i2:] -= err @ u[i1:i2, i2:]
    return loss


SETTINGS = [
    dict(bits=2, sym=False, groupsize=-1, actorder=False, static=False),
    dict(bits=2, sym=True, groupsize=-1, actorder=True, static=False),
    dict(bits=2, sym=False, groupsize=128, actorder=True, static=False),
    dict(bits=2, sym=False, groupsize=64, actorder=True, static=True),
    dict(bits=2, sym=True, groupsize=64, actorder=False, static=False),
]
INPUTS = {'self_attn.q_proj': 'qkv', 'self_attn.k_proj': 'qkv', 'self_attn.v_proj': 'qkv', 'self_attn.o_proj': 'o', 'mlp.gate_proj': 'mlp', 'mlp.up_proj': 'mlp', 'mlp.down_proj': 'down'}

if __name__ == '__main__':
    folder, calibration, target = sys.argv[1:]
    cfg = json.load(open(f'{folder}/config.json'))
    w, windows = load(f'{folder}/model.safetensors'), [np.array(x) for x in json.load(open(calibration))]
    h = hessians(w, cfg, windows)
    rows = []
    for s in SETTINGS:
        losses = {}
        for l in range(cfg['num_hidden_layers']):
            for name, key in INPUTS.items():
                n = f'model.layers.{l}.{name}'
                losses[n] = round(gptq(w[n + '.weight'], h[(l, key)], **s), 3)
        rows.append({'settings': s, 'losses': losses, 'total': round(sum(losses.values()), 3)})
        print(s, rows[-1]['total'], flush=True)
    json.dump({'note': 'made by tools/golden_gptq.py: every linear on its inputs in the original model; loss = sum (w - q)^2 / (2 d^2)', 'windows': len(windows), 'rows': rows}, open(target, 'w'), indent=1)
