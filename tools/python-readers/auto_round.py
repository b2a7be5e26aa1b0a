"""Loads folders that lmq wrote as AutoRound with transformers and AutoRound, on the CPU, and compares every weight that AutoRound's linears
decode, in float32 (AWQ: fp16), bit for bit with what lmq decodes it to.

g_idx of version 2 is for GPTQModel: AutoRound's own linears do without, and with it give wrong shapes where outputs outnumber inputs.

    pip install torch transformers accelerate auto-round==0.16.1 datasets safetensors
    python tools/python-readers/auto_round.py                       # after a build
"""
import json, sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != here]  # this file has the package's name
import torch
from auto_round.export.export_to_autoround.export import dynamic_import_quant_linear_for_packing

sys.path.append(str(here))
from _folders import check_folders, load, parts_of, run


def decode(packing, parts, bits, group, inputs, out):
    QuantLinear = dynamic_import_quant_linear_for_packing(packing.removesuffix(":gptqmodel"), bits, group, True)
    if "awq" in packing:
        layer = QuantLinear(bits, group, inputs, out, False, "cpu")
        layer.load_state_dict(parts)
        return layer(torch.eye(inputs).half()).t(), torch.float16
    layer = QuantLinear(bits, group, inputs, out, False)
    layer.load_state_dict({k: v for k, v in parts.items() if k != "g_idx"})
    layer.scales = layer.scales.float()
    return layer(torch.eye(inputs)).t(), torch.float32


def check(folder, stored, decoded):
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    for name, want in decoded.items():
        module = name.removesuffix(".weight")
        found, dtype = decode(config["packing_format"], parts_of(stored, module), config["bits"], config["group_size"], want.shape[1], want.shape[0])
        assert torch.equal(found.detach(), want.to(dtype)), f"{module}: other weights"
    if "awq" not in folder.name:  # which AutoRound multiplies with on a GPU only
        run(load(folder, torch.bfloat16, ("g_idx",) if "gptqmodel" in folder.name else ()))


check_folders("auto_round", check)
