"""Golden AutoRound checkpoints: linears packed, and weights decoded, by the package that defines the format. CPU only.

    pip install torch auto-round==0.16.1
    python auto_round.py > auto_round.json

Weights are kept as the FNV-1a hash of their fp16 bits, [out, in].
"""
import base64, json, os, sys

sys.path = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]  # this file has the package's name
import numpy as np
import torch
from auto_round.export.export_to_autoround.export import dynamic_import_quant_linear_for_packing

rng = np.random.default_rng(6)


def fnv(data):
    h = 2166136261
    for b in np.ascontiguousarray(data).view(np.uint8).reshape(-1).tolist():
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return f"{h:08x}"


def case(packing, bits, out, inputs, group, sym):
    groups = inputs // group
    codes = rng.integers(0, 2**bits, (out, inputs))
    zeros = np.full((out, groups), 2 ** (bits - 1)) if sym else rng.integers(1, 2**bits, (out, groups))
    scales = rng.uniform(0.001, 0.1, (out, groups)).astype(np.float16).astype(np.float32)
    if sym:
        scales *= rng.choice([-1, 1], (out, groups)).astype(np.float32)  # its full-range grid has negative ones
    weight = ((codes - zeros.repeat(group, 1)) * scales.repeat(group, 1)).astype(np.float32)
    linear = torch.nn.Linear(inputs, out, bias=False)
    linear.weight.data = torch.from_numpy(weight)
    QuantLinear = dynamic_import_quant_linear_for_packing(packing, bits, group, sym)
    s, z = torch.from_numpy(scales), torch.from_numpy(zeros.astype(np.float32))
    if "awq" in packing:
        layer = QuantLinear.from_linear(linear, bits, group, False, s.t().contiguous(), z.t().contiguous(), device="cpu")
    else:
        layer = QuantLinear(bits, group, inputs, out, False)
        layer.device = torch.device("cpu")
        layer.pack(linear, s, 2 ** (bits - 1) if sym else z, None, device="cpu")
    if "awq" in packing:
        decoded = layer(torch.eye(inputs).half())
    else:
        layer.scales, half = layer.scales.float(), layer.scales
        decoded = layer(torch.eye(inputs)).half()  # float32 keeps the products, which are then rounded once
        layer.scales = half
    assert np.array_equal(decoded.detach().numpy(), weight.T.astype(np.float16))
    tensors = {k: {"dtype": {"int32": "I32", "float16": "F16"}[str(t.dtype)[6:]], "shape": list(t.shape), "data": base64.b64encode(t.contiguous().numpy().tobytes()).decode()} for k, t in layer.state_dict().items()}
    return {"packing": packing, "bits": bits, "out": out, "in": inputs, "group": group, "sym": sym, "tensors": tensors, "weight": fnv(decoded.detach().t().contiguous().numpy())}


cases = [case(packing, bits, 32, 64, 32, sym) for packing in ("auto_round:auto_gptq", "auto_round:gptqmodel") for bits in (2, 3, 4, 8) for sym in (True, False)]
cases += [case("auto_round", 4, 32, 96, 32, False), case("auto_round:auto_awq", 4, 32, 64, 32, False), case("auto_round:auto_awq", 4, 32, 64, 64, True)]
print("[" + ",\n".join(json.dumps(c) for c in cases) + "]")
