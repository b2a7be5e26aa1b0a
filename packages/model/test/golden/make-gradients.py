"""Makes gradients.json: by PyTorch's autograd, the gradients of the mean next-token cross entropy of the tiny models of make-families.py and of
the nano models (written with transformers 5.24, torch 2.15). Of each gradient: its sum of squares, its products with two vectors of the
generator, and four of its numbers: enough to tell any other gradient from it.

    python make-gradients.py FAMILIES NANO OUT     (FAMILIES/<case>.json of make-families.py; NANO/<name> Hugging Face folders, NANO/calibration.json)

Models run in float64 with eager attention; transformers itself computes norms, softmax and rotation angles in float32.
"""
import importlib.util, json, os, sys, tempfile
import numpy as np

spec = importlib.util.spec_from_file_location('families', os.path.join(os.path.dirname(__file__), 'make-families.py'))
families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(families)

def draw(text, n):
    """families.lcg without a loop over n: jumps of the generator in blocks of powers of two."""
    s0 = 2166136261
    for byte in text.encode(): s0 = ((s0 ^ byte) * 16777619) & 0xffffffff
    a, c = np.uint64(1664525), np.uint64(1013904223)
    m = np.uint64(0xffffffff)
    s = np.array([(1664525 * s0 + 1013904223) & 0xffffffff], np.uint64)
    while len(s) < n:  # a, c: the map that jumps len(s) steps
        s = np.concatenate([s, (a * s + c) & m])
        a, c = (a * a) & m, (a * c + c) & m
    return (s[:n] >> np.uint64(8)).astype(np.float64) / 2**24 - 0.5

def summary(name, g):
    g = g.detach().double().numpy().ravel()
    at = [int((u + 0.5) * len(g)) for u in draw('samples of ' + name, 4)]
    return [float(g @ g), float(g @ draw(name + ' 1', len(g))), float(g @ draw(name + ' 2', len(g))), *(float(g[i]) for i in at)]

def gradients(folder, ids, names):
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation='eager')
    if hasattr(model, 'set_experts_implementation'): model.set_experts_implementation('eager')
    model.eval()
    ids = torch.tensor([ids])
    x = model.get_input_embeddings()(ids).detach().requires_grad_(True)
    loss = model(inputs_embeds=x, labels=ids).loss
    loss.backward()
    found = {n: p.grad for n, p in model.named_parameters()}
    out = {}
    for name in names:
        if 'embed_tokens' in name or name.endswith('model.norm.weight'): continue
        if name in found: g = found[name]
        else:  # experts, which transformers stacks
            block, rest = name.split('.block_sparse_moe.')
            if rest == 'gate.weight': g = next(v for k, v in found.items() if k.startswith(block + '.') and k.endswith('.gate.weight'))
            else:
                _, e, part, _ = rest.split('.')
                stack = next(v for k, v in found.items() if k.startswith(block + '.') and k.endswith('experts.down_proj' if part == 'w2' else 'experts.gate_up_proj'))
                g = stack[int(e)]
                if part != 'w2': g = g[:g.shape[0] // 2] if part == 'w1' else g[g.shape[0] // 2:]
        if name.endswith('bias'): continue
        out[name] = summary(name, g)
    out['input'] = summary('input', x.grad[0])
    return {'loss': float(loss), 'gradients': out}

def main(folder, nano, out):
    import torch, transformers
    from safetensors import safe_open
    from safetensors.numpy import save_file
    result = {'note': f'transformers {transformers.__version__}, torch {torch.__version__}, made by make-gradients.py'}
    for name in families.CASES:
        golden = json.load(open(os.path.join(folder, name + '.json')))
        config = golden['config']
        with tempfile.TemporaryDirectory() as temporary:
            json.dump(config, open(os.path.join(temporary, 'config.json'), 'w'))
            save_file({k: families.weight(k, s, config['model_type']) for k, s in golden['tensors'].items()}, os.path.join(temporary, 'model.safetensors'), {'format': 'pt'})
            result[name] = gradients(temporary, golden['ids'], golden['tensors'])
        print(name, result[name]['loss'])
    ids = json.load(open(os.path.join(nano, 'calibration.json')))[0][:256]
    for name in ('lmq-nano', 'lmq-nano-moe'):
        path = os.path.join(nano, name)
        with safe_open(os.path.join(path, 'model.safetensors'), 'np') as f: names = list(f.keys())
        result[name] = gradients(path, ids, names)
        print(name, result[name]['loss'])
    def short(x): return float(f'{x:.8g}') if isinstance(x, float) else {k: short(v) for k, v in x.items()} if isinstance(x, dict) else [short(v) for v in x] if isinstance(x, list) else x
    json.dump(short(result), open(os.path.join(out, 'gradients.json'), 'w'), separators=(',', ':'))

main(*sys.argv[1:4])
