"""Reads a GPTQ folder that lmq wrote with AutoGPTQ's and GPTQModel's own code, on the CPU, and compares bit for bit: the weights that they
decode with those that lmq decodes; what AutoGPTQ packs of these weights with what lmq packed; and what GPTQModel makes of the rules of
"dynamic" with what the tensors are.

    pip install torch transformers safetensors
    pip download --no-deps auto-gptq==0.7.1 gptqmodel==7.7.0          # unpacked into SRC; only functions are read from them
    lmq quantize lmq-nano -o model --bits 4 --group-size 64 --export gptq
    python tools/python-readers/gptq.py SRC model
"""
import sys, types
import torch
from _packages import config_of, function_of, ours, same, tensors_of

src, folder = sys.argv[1:]
conv1d = {"transformers": types.SimpleNamespace(pytorch_utils=types.SimpleNamespace(Conv1D=type("Conv1D", (), {})))}
pack = function_of(src, "auto_gptq/nn_modules/qlinear/qlinear_cuda.py", "pack", conv1d)
forward = function_of(src, "auto_gptq/nn_modules/qlinear/qlinear_cuda.py", "forward", conv1d)
base = "gptqmodel-*/gptqmodel/nn_modules/qlinear/__init__.py"
shifts = {n: function_of(src, base, n, {"_torch_shift_factor": function_of(src, base, "_torch_shift_factor")}) for n in ("_torch_right_shift", "_torch_left_shift")}
dequantize_v2 = function_of(src, base, "dequantize_weight", shifts)
from_codes = function_of(src, base, "_dequantize_from_codes")
literal_of = function_of(src, "gptqmodel-*/gptqmodel/quantization/config.py", "_extract_literal_regex_pattern")

config = config_of(folder, "gptq")
v2 = config["checkpoint_format"] == "gptq_v2"
stored = tensors_of(folder)
decoded = ours(folder)
modules = [n.removesuffix(".qweight") for n in stored if n.endswith(".qweight")]
assert modules
# GPTQModel knows a rule for one name by this function, and then looks names up instead of matching them
rules = {literal_of(rule[2:]): False if rule.startswith("-:") else value for rule, value in config.get("dynamic", {}).items()}
assert None not in rules


def shifts_of(bits):
    if bits != 3:
        return torch.tensor(list(range(0, 32, bits)), dtype=torch.int32).unsqueeze(0)
    lanes = [[0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0], [0, 1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31], [0, 2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0]]
    return torch.tensor(lanes, dtype=torch.int32).reshape(1, 3, 12)


def decode(parts, bits, inputs, out):
    """The weight [in, out] in float32, so that products are not rounded."""
    wf = shifts_of(bits)
    scales = parts["scales"].float()
    if not v2:
        me = types.SimpleNamespace(infeatures=inputs, outfeatures=out, bits=bits, bias=None, wf=wf, autogptq_cuda_available=False, qweight=parts["qweight"],
                                   qzeros=parts["qzeros"], scales=scales, g_idx=parts["g_idx"])
        return forward(me, torch.eye(inputs))
    me = types.SimpleNamespace(planar=False, bits=bits, qzeros=parts["qzeros"], qweight=parts["qweight"], scales=scales, g_idx=parts["g_idx"], in_features=inputs,
                               pack_factor=32 // bits, maxq=2**bits - 1, dequant_dtype=torch.int16 if bits == 8 else torch.int8, _init_wf_unsqueeze_buffers=lambda: None,
                               wf_unsqueeze_zero=wf.unsqueeze(0), wf_unsqueeze_neg_one=wf.unsqueeze(-1))
    me._dequantize_from_codes = lambda *a, **k: from_codes(me, *a, **k)
    return dequantize_v2(me)


def zeros_of(parts, bits, out):
    """Zero points [groups, out] as stored."""
    words = parts["qzeros"].to(torch.int64) & 0xFFFFFFFF
    lanes = (words.unsqueeze(-1) >> torch.arange(32)) & 1
    return (lanes.reshape(words.shape[0], out, bits) << torch.arange(bits)).sum(-1)


def packed(weight, scales, zeros, g_idx, bits):
    out, inputs = weight.shape
    me = types.SimpleNamespace(infeatures=inputs, outfeatures=out, bits=bits, bias=None, wf=shifts_of(bits))
    layer = types.SimpleNamespace(weight=types.SimpleNamespace(data=weight, dtype=torch.float32), bias=None)
    pack(me, layer, scales.float().t().contiguous(), zeros.float().t().contiguous(), g_idx)
    return me


for module in modules:
    parts = {p: stored[f"{module}.{p}"] for p in ("qweight", "qzeros", "scales", "g_idx")}
    groups, out = parts["scales"].shape
    bits = parts["qzeros"].shape[1] * 32 // out
    inputs = parts["qweight"].shape[0] * 32 // bits
    weight = decode(parts, bits, inputs, out)
    same(f"{module}: weights", weight.t().contiguous(), decoded[f"{module}.weight"])
    rule = rules.get(module, {})
    size = rule.get("group_size", config["group_size"])
    assert rule.get("bits", config["bits"]) == bits and -(-inputs // (inputs if size == -1 else size)) == groups, module
    raw = zeros_of(parts, bits, out)
    real = raw if v2 else raw + 1
    again = packed(weight.t().contiguous(), parts["scales"], real, parts["g_idx"], bits)
    dead = (parts["scales"] == 0).any()  # the packer divides by scales
    if not dead:
        same(f"{module}: qweight", again.qweight, parts["qweight"])
    if v2:  # the packer takes one away
        again = packed(weight.t().contiguous(), parts["scales"], real + 1, parts["g_idx"], bits)
    same(f"{module}: qzeros", again.qzeros, parts["qzeros"])
for name in decoded:
    module = name.removesuffix(".weight")
    if module not in modules and "proj" in module:
        assert rules[module] is False, f"{module}: not quantized, and no rule says so"
print(f"{folder}: {len(modules)} linears of GPTQ {'v2' if v2 else 'v1'} are the same, packed and decoded")
