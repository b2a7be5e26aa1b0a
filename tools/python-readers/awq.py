"""Reads an AWQ folder that lmq wrote with AutoAWQ's own code, on the CPU, and compares bit for bit: the weights that it decodes with those
that lmq decodes, and what it packs of these weights with what lmq packed.

    pip install torch transformers safetensors
    pip download --no-deps autoawq==0.2.9                             # unpacked into SRC; only functions are read from it
    lmq quantize lmq-nano -o model --bits 4 --group-size 64 --export awq
    python tools/python-readers/awq.py SRC model
"""
import sys, types
import torch
from _packages import config_of, function_of, ours, same, tensors_of

src, folder = sys.argv[1:]
utils = "autoawq-*/awq/utils/packing_utils.py"
parts_of = {n: function_of(src, utils, n, {"AWQ_REVERSE_ORDER": [0, 4, 1, 5, 2, 6, 3, 7]}) for n in ("unpack_awq", "reverse_awq_order")}
dequantize = function_of(src, utils, "dequantize_gemm", parts_of)
from_linear = function_of(src, "autoawq-*/awq/modules/linear/gemm.py", "from_linear")

config = config_of(folder, "awq")
assert config["version"] == "gemm" and config["zero_point"] and config["bits"] == 4
stored = tensors_of(folder)
decoded = ours(folder)
modules = [n.removesuffix(".qweight") for n in stored if n.endswith(".qweight")]
assert modules
for module in modules:
    qweight, qzeros, scales = (stored[f"{module}.{p}"] for p in ("qweight", "qzeros", "scales"))
    inputs, out = qweight.shape[0], scales.shape[1]
    group = inputs if config["group_size"] == -1 else config["group_size"]
    assert scales.shape[0] == inputs // group, module
    weight = dequantize(qweight, qzeros, scales.float(), 4, group)  # in float32, so that products are not rounded
    same(f"{module}: weights", weight.t().contiguous(), decoded[f"{module}.weight"])
    if (scales == 0).any():
        continue  # the packer divides by scales
    _, zeros = parts_of["unpack_awq"](qweight, qzeros, 4)
    _, zeros = parts_of["reverse_awq_order"](zeros, zeros, 4)
    layer = types.SimpleNamespace(in_features=inputs, out_features=out, bias=None, weight=types.SimpleNamespace(device="cpu", data=weight.t().contiguous()))
    new = lambda *a, **k: types.SimpleNamespace(w_bit=4, group_size=group, in_features=inputs)
    again = from_linear(new, layer, 4, group, False, scales.float(), (zeros & 15).float())
    same(f"{module}: qweight", again.qweight, qweight)
    same(f"{module}: qzeros", again.qzeros, qzeros)
for name in decoded:
    module = name.removesuffix(".weight")
    if module not in modules and "proj" in module:
        assert any(key in module for key in config["modules_to_not_convert"] or []), f"{module}: not quantized, and nothing says so"
print(f"{folder}: {len(modules)} linears of AWQ are the same, packed and decoded")
