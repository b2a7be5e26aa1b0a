"""Golden HQQ checkpoints: linears quantized, encoded for safetensors and decoded by the package that defines the format. CPU only.

    pip install torch hqq==0.2.8.post1
    python hqq.py > hqq.json

Weights are kept as the FNV-1a hash of what HQQ decodes when it computes in float32.
"""
import base64, json, os, sys

sys.path = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]  # this file has the package's name
import torch
from hqq.core.quantize import HQQLinear, Quantizer

DTYPES = {"uint8": "U8", "int32": "I32", "int64": "I64", "float32": "F32", "bfloat16": "BF16", "float16": "F16"}
torch.manual_seed(7)


def raw(t):
    return t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def fnv(t):
    h = 2166136261
    for b in raw(t):
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return f"{h:08x}"


def case(nbits, out, inputs, group, axis=1, dtype=torch.float16, channel_wise=True, view_as_float=False, round_zero=False):
    weights = {"nbits": nbits, "channel_wise": channel_wise, "group_size": group, "optimize": True, "round_zero": round_zero, "axis": axis, "view_as_float": view_as_float}
    config = {"weight_quant_params": weights, "scale_quant_params": None, "zero_quant_params": None, "offload_meta": False}
    linear = torch.nn.Linear(inputs, out, bias=False)
    linear.weight.data = torch.randn(out, inputs) * 0.05
    layer = HQQLinear(linear, config, compute_dtype=dtype, device="cpu")
    meta = {k: v.float() if k in ("scale", "zero") else v for k, v in layer.meta.items()} | {"compute_dtype": torch.float32}
    decoded = Quantizer.dequantize(layer.W_q.data, meta)
    assert decoded.dtype == torch.float32 and decoded.shape == (out, inputs)
    tensors = {k: {"dtype": DTYPES[str(t.dtype)[6:]], "shape": list(t.shape), "data": base64.b64encode(raw(t.data)).decode()} for k, t in layer.state_dict().items() if t is not None}
    return {"nbits": nbits, "out": out, "in": inputs, "group": group, "axis": axis, "channelWise": channel_wise, "dtype": str(dtype)[6:], "viewAsFloat": view_as_float,
            "tensors": tensors, "weight": fnv(decoded)}


cases = [case(nbits, 16, 64, 32) for nbits in (8, 6, 5, 4, 3, 2, 1.58, 1)]
cases += [
    case(4, 8, 64, 64, dtype=torch.bfloat16, round_zero=True),
    case(4, 8, 64, 16, dtype=torch.float32),
    case(4, 8, 32, 64),  # groups of two rows
    case(3, 6, 40, 40),  # rows of zeros at the end
    case(8, 4, 48, 64),  # groups across rows
    case(4, 8, 48, 64, axis=0),
    case(3, 8, 64, 64, axis=0),
    case(4, 8, 64, 64, channel_wise=False),
    case(4, 8, 64, 64, view_as_float=True),
    case(3, 8, 64, 64, dtype=torch.bfloat16, view_as_float=True),
]
print("[" + ",\n".join(json.dumps(c) for c in cases) + "]")
