"""Golden bitsandbytes checkpoints: linears quantized, saved and decoded by the package that defines the format. CPU only.

    pip install torch bitsandbytes==0.50.2
    python bitsandbytes.py > bitsandbytes.json

Decoded by the package's portable code: where a block is longer than a row, its AVX-512 kernel gives blocks of a row the wrong scale (0.50.2).
4-bit weights are kept as the FNV-1a hash of what bitsandbytes decodes, in the dtype it decodes to; 8-bit ones as float32.
"""
import base64, json, os, sys

sys.path = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]  # this file has the package's name
import torch
import bitsandbytes as bnb
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from bitsandbytes.functional import dequantize_4bit, dequantize_blockwise

DTYPES = {"int8": "I8", "uint8": "U8", "float32": "F32", "bfloat16": "BF16", "float16": "F16"}
torch.manual_seed(5)


def raw(t):
    return t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def fnv(t):
    h = 2166136261
    for b in raw(t):
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return f"{h:08x}"


def case(layer, facts, weight):
    tensors = {k: {"dtype": DTYPES[str(t.dtype)[6:]], "shape": list(t.shape), "data": base64.b64encode(raw(t)).decode()} for k, t in layer.state_dict().items()}
    return {**facts, "tensors": tensors, "weight": base64.b64encode(raw(weight)).decode() if facts["type"] == "int8" else fnv(weight)}


def four(kind, out, inputs, blocksize, double, dtype=torch.float32, storage=torch.uint8):
    w = (torch.randn(out, inputs) * 0.05).to(dtype)
    layer = bnb.nn.Linear4bit(inputs, out, bias=False, compress_statistics=double, quant_type=kind, quant_storage=storage)
    layer.weight = bnb.nn.Params4bit(w, requires_grad=False, blocksize=blocksize, compress_statistics=double, quant_type=kind, quant_storage=storage)
    layer = layer.to("cpu")
    state = layer.weight.quant_state
    absmax = dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
    codes = layer.weight.data.view(torch.uint8).reshape(-1)
    decoded = _dequantize_4bit_compute(codes, absmax, state.code, blocksize, state.shape, dtype)
    assert inputs % blocksize or torch.equal(decoded, dequantize_4bit(layer.weight.data, state))
    return case(layer, {"type": kind, "out": out, "in": inputs, "block": blocksize, "double": double, "dtype": str(dtype)[6:]}, decoded)


def eight(out, inputs):
    w = (torch.randn(out, inputs) * 0.05).half()
    layer = bnb.nn.Linear8bitLt(inputs, out, bias=False, has_fp16_weights=False)
    layer.weight = bnb.nn.Int8Params(w, requires_grad=False, has_fp16_weights=False)
    layer = layer.to("cpu")
    q, scb = layer.weight.data, layer.weight.SCB
    return case(layer, {"type": "int8", "out": out, "in": inputs, "block": inputs, "double": False, "dtype": "float32"}, bnb.functional.int8_vectorwise_dequant(q, scb))


cases = [
    four("nf4", 6, 50, 64, False),  # blocks across rows, the last one shorter
    four("fp4", 5, 33, 32, False),  # an odd number of weights
    four("nf4", 8, 64, 64, False, torch.bfloat16),
    four("nf4", 130, 65, 32, True),  # two blocks of scales
    four("fp4", 16, 128, 64, True, torch.float16),
    four("nf4", 2, 4096, 4096, True, torch.bfloat16),
    four("nf4", 4, 64, 64, True, torch.bfloat16, torch.bfloat16),
    four("fp4", 4, 64, 128, False, torch.float32, torch.float32),
    eight(24, 40),
]
print("[" + ",\n".join(json.dumps(c) for c in cases) + "]")
