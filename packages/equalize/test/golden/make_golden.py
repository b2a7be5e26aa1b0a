"""Golden vectors for AWQ and SmoothQuant.

Run: python make_golden.py AUTOAWQ > golden.json      AUTOAWQ: an unpacked source distribution of autoawq 0.2.9. Needs torch and numpy.

AWQ: `AwqQuantizer._compute_best_scale` (with and without duo scaling; without is the search of mit-han-lab/llm-awq) and
`_compute_best_clip`, executed. What they need of the rest of the package is replaced by empty modules. `mlp` cases judge by the output of
silu(gate x) * up x through a float `down`, the others by the output of the one linear.

SmoothQuant: the formula of mit-han-lab/smoothquant, smooth.py `smooth_ln_fcs`, in float32 torch.

Inputs come from a linear congruential generator that any language can repeat: s <- (1664525 s + 1013904223) mod 2**32, u = s / 2**32.
"""
import importlib.util
import json
import sys
import types

import torch
from torch import nn

HIDDEN, WIDE, TOKENS, SEED = 64, 128, 600, 2024


def load(root):
    for name in ["awq", "awq.utils", "awq.utils.calib_data", "awq.quantize", "awq.quantize.scale", "awq.utils.utils", "awq.modules",
                 "awq.modules.linear", "awq.utils.module", "transformers", "tqdm"]:
        sys.modules[name] = types.ModuleType(name)
    nothing = lambda *_, **__: None
    give = {
        "awq.utils.calib_data": ["get_calib_dataset"],
        "awq.quantize.scale": ["apply_scale", "apply_clip"],
        "awq.utils.utils": ["clear_memory", "get_best_device"],
        "awq.modules.linear": ["WQLinear_GEMM", "WQLinear_GEMV", "WQLinear_Marlin", "WQLinear_GEMVFast"],
        "awq.utils.module": ["append_str_prefix", "get_op_name", "get_named_linears", "set_op_by_name", "exclude_layers_to_not_quantize"],
        "tqdm": ["tqdm"],
    }
    for name, members in give.items():
        for m in members:
            setattr(sys.modules[name], m, nothing)
    spec = importlib.util.spec_from_file_location("quantizer", f"{root}/awq/quantize/quantizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.AwqQuantizer


class Lcg:
    def __init__(self, seed):
        self.s = seed

    def u(self):
        self.s = (1664525 * self.s + 1013904223) % 2**32
        return self.s / 2**32

    def bell(self):
        return self.u() + self.u() + self.u() + self.u() - 2

    def matrix(self, rows, cols, factor=1.0):
        return torch.tensor([[self.bell() * factor for _ in range(cols)] for _ in range(rows)], dtype=torch.float64).float()


def inputs():
    g = Lcg(SEED)
    gate, up, down = g.matrix(WIDE, HIDDEN, 0.25), g.matrix(WIDE, HIDDEN, 0.25), g.matrix(HIDDEN, WIDE, 0.25)
    gain = torch.tensor([0.2 + 12 * g.u() ** 6 for _ in range(HIDDEN)], dtype=torch.float64)
    x = (torch.tensor([[g.bell() for _ in range(HIDDEN)] for _ in range(TOKENS)], dtype=torch.float64) * gain).float()
    return gate, up, down, x


class Mlp(nn.Module):
    def __init__(self, gate, up, down):
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(w.shape[1], w.shape[0], bias=False) for w in (gate, up, down))
        for layer, w in ((self.gate, gate), (self.up, up), (self.down, down)):
            layer.weight.data = w.clone()

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


@torch.no_grad()
def main():
    AwqQuantizer = load(sys.argv[1])
    gate, up, down, x = inputs()
    act = nn.functional.silu(x @ gate.T) * (x @ up.T)

    def quantizer(bits, group, zero_point, duo):
        q = object.__new__(AwqQuantizer)
        q.w_bit, q.group_size, q.zero_point, q.duo_scaling = bits, group, zero_point, duo
        q.max_chunk_memory, q.n_parallel_calib_samples = 2**30, None
        return q

    def search(bits, group, zero_point, duo, block, layers, feed):
        q = quantizer(bits, group, zero_point, duo)
        losses = []
        inner = q._compute_loss
        q._compute_loss = lambda *a: losses.append(inner(*a)) or losses[-1]
        # On a GPU, where the reference runs, `v.cpu()` is a copy to restore from; on a CPU it is the weight itself, scaled in place.
        whole = block.state_dict
        block.state_dict = lambda: {k: v.clone() for k, v in whole().items()}
        weight = torch.cat([m.weight for m in layers])
        grouped = weight.view(-1, group)
        w_mean = (grouped.abs() / (grouped.abs().amax(dim=1, keepdim=True) + 1e-6)).view(weight.shape).mean(0)
        scales = q._compute_best_scale(feed, w_mean, feed.abs().mean(0), block, layers, block(feed))
        return {"bits": bits, "group": group, "symmetric": not zero_point, "duo": duo, "losses": losses, "scales": scales.tolist()}

    scale_cases, clip_cases = [], []
    for bits, group, zero_point, duo in [(4, 32, True, False), (3, 32, True, True), (3, 64, False, False), (4, 32, True, True)]:
        m = Mlp(gate, up, down)
        scale_cases.append({"block": "mlp", **search(bits, group, zero_point, duo, m, [m.gate, m.up], x)})
        scale_cases.append({"block": "down", **search(bits, group, zero_point, duo, m.down, [m.down], act)})
    for bits, group, zero_point in [(4, 32, True), (3, 64, True), (3, 32, False)]:
        best = quantizer(bits, group, zero_point, False)._compute_best_clip(up.clone(), x.clone())
        clip_cases.append({"bits": bits, "group": group, "symmetric": not zero_point, "maxima": best.flatten().tolist()})

    smooth = []
    absmax = x.abs().amax(0)
    columns = torch.cat([gate, up]).abs().amax(0).clamp(min=1e-5)
    for alpha in [0.5, 0.85]:
        s = (absmax.pow(alpha) / columns.pow(1 - alpha)).clamp(min=1e-5)
        smooth.append({"alpha": alpha, "scales": s.tolist()})

    rounded = lambda v: float(f"{v:.9g}") if isinstance(v, float) else [rounded(i) for i in v] if isinstance(v, list) else {k: rounded(i) for k, i in v.items()} if isinstance(v, dict) else v
    out = {"hidden": HIDDEN, "wide": WIDE, "tokens": TOKENS, "seed": SEED, "sum": x.abs().double().sum().item(),
           "scales": scale_cases, "clips": clip_cases, "smooth": smooth}
    print(json.dumps(rounded(out)))


main()
