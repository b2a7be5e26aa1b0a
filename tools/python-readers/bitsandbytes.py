"""Loads folders that lmq wrote in the formats of bitsandbytes with transformers and bitsandbytes, on the CPU, and compares every weight with
what lmq decodes it to: of 4 bits bit for bit, of 8 bits to the last bit but one, because bitsandbytes multiplies in another order.

    pip install torch transformers accelerate bitsandbytes==0.50.2 safetensors
    python tools/python-readers/bitsandbytes.py                     # after a build
"""
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != here]  # this file has the package's name
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from bitsandbytes.functional import QuantState, dequantize_4bit, dequantize_blockwise, int8_vectorwise_dequant

sys.path.append(str(here))
from _folders import check_folders, load, parts_of, run


def check(folder, stored, decoded):
    model = load(folder, torch.bfloat16)
    for name, want in decoded.items():
        module = name.removesuffix(".weight")
        parts = parts_of(stored, module)
        layer = model.get_submodule(module)
        if "SCB" in parts:
            found = int8_vectorwise_dequant(parts["weight"], parts["SCB"])
            assert ((found - want).abs() <= want.abs() * 2**-22).all(), f"{module}: other weights"
            assert torch.equal(layer.weight.data, parts["weight"]) and torch.equal(layer.weight.SCB, parts["SCB"]), f"{module}: transformers loads others"
            continue
        state = QuantState.from_dict({n: t for n, t in parts.items() if n != "weight"}, torch.device("cpu"))
        assert state.dtype == torch.bfloat16 and state.shape == want.shape
        absmax = dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
        found = _dequantize_4bit_compute(parts["weight"].reshape(-1), absmax, state.code, state.blocksize, state.shape, torch.float32)
        assert torch.equal(found, want), f"{module}: other weights"
        loaded = dequantize_4bit(parts["weight"], layer.weight.quant_state)
        assert torch.equal(loaded, want.bfloat16()), f"{module}: transformers loads others"
    run(model)


check_folders("bitsandbytes", check)
