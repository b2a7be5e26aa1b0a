"""Loads every linear of folders that lmq wrote as HQQ with HQQ, on the CPU, and compares bit for bit: the weights that it decodes, in float32
and in its own precision, with those that lmq decodes; and what HQQ packs of their codes with what lmq packed.

    pip install torch transformers hqq==0.2.8.post1 safetensors
    python tools/python-readers/hqq.py                              # after a build
"""
import json, sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != here]  # this file has the package's name
import torch
from hqq.core.quantize import HQQLinear, Quantizer
from transformers import HqqConfig

sys.path.append(str(here))
from _folders import check_folders, parts_of


def check(folder, stored, decoded):
    HqqConfig.from_dict(json.loads((folder / "config.json").read_text())["quantization_config"])
    for name, want in decoded.items():
        module = name.removesuffix(".weight")
        parts = parts_of(stored, module)
        layer = HQQLinear(None, None, compute_dtype=torch.float16, device="cpu", initialize=False)
        missing = layer.state_dict_keys() - parts.keys() - {"bias"}
        assert not missing and parts.keys() <= layer.state_dict_keys(), f"{module}: missing {missing}"
        layer.load_state_dict(dict(parts))
        meta = layer.meta
        exact = {**meta, "scale": meta["scale"].float(), "zero": meta["zero"].float(), "compute_dtype": torch.float32}
        assert torch.equal(Quantizer.dequantize(layer.W_q, exact), want), f"{module}: other weights"
        assert (layer.dequantize().float() - want).abs().max() < 2**-8 * want.abs().max(), f"{module}: other weights in fp16"
        codes = layer.unpack(dtype=torch.uint8)[: meta["shape"].numel() // meta["group_size"]]
        assert torch.equal(Quantizer.pack[meta["packing"]](codes), parts["W_q"]), f"{module}: packed otherwise"


check_folders("hqq", check)
