"""Golden GPTQ and AWQ checkpoints: tensors packed, and weights decoded, by the packages that define the formats. CPU only.

    pip install torch numpy
    pip download --no-deps auto-gptq==0.7.1 autoawq==0.2.9 gptqmodel==7.7.0     # unpacked into SRC; only functions are read from them
    python quantized.py SRC > quantized.json

Weights are kept as the FNV-1a hash of their fp16 bits, [out, in]: the packages multiply in fp16.
"""
import ast, base64, glob, json, sys, types
import numpy as np
import torch

src = sys.argv[1]
rng = np.random.default_rng(4)


def fnv(data):
    h = 2166136261
    for b in np.ascontiguousarray(data).view(np.uint8).reshape(-1).tolist():
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return f"{h:08x}"


def function_of(path, name, scope=()):
    """A function of a file, without importing its package."""
    (path,) = glob.glob(f"{src}/{path}")
    found = [n for n in ast.walk(ast.parse(open(path).read())) if isinstance(n, ast.FunctionDef) and n.name == name]
    found[0].decorator_list = []
    names = {"torch": torch, "t": torch, "np": np, "nn": torch.nn, "get_best_device": lambda: "cpu", **vars(__import__("typing")), **dict(scope),
             "transformers": types.SimpleNamespace(pytorch_utils=types.SimpleNamespace(Conv1D=type("Conv1D", (), {})))}
    exec(compile(ast.Module(found[:1], []), path, "exec"), names)
    return names[name]


pack = function_of("auto_gptq/nn_modules/qlinear/qlinear_cuda.py", "pack")
forward = function_of("auto_gptq/nn_modules/qlinear/qlinear_cuda.py", "forward")
base = "gptqmodel-*/gptqmodel/nn_modules/qlinear/__init__.py"
shifts = {n: function_of(base, n, {"_torch_shift_factor": function_of(base, "_torch_shift_factor")}) for n in ("_torch_right_shift", "_torch_left_shift")}
dequantize_v2 = function_of(base, "dequantize_weight", shifts)
from_codes = function_of(base, "_dequantize_from_codes")
from_linear = function_of("autoawq-*/awq/modules/linear/gemm.py", "from_linear")
utils = "autoawq-*/awq/utils/packing_utils.py"
parts = {n: function_of(utils, n, {"AWQ_REVERSE_ORDER": [0, 4, 1, 5, 2, 6, 3, 7]}) for n in ("unpack_awq", "reverse_awq_order")}
dequantize_awq = function_of(utils, "dequantize_gemm", parts)

encode = lambda x: {"dtype": {"int32": "I32", "float16": "F16"}[str(x.dtype)], "shape": list(x.shape), "data": base64.b64encode(np.ascontiguousarray(x).tobytes()).decode()}


def problem(bits, out, inputs, group, sym, act_order, lowest):
    """Codes, scales and zero points, and weights that are exactly theirs."""
    groups = -(-inputs // group)
    g_idx = np.arange(inputs) // group
    if act_order:
        g_idx = g_idx[np.argsort(rng.permutation(inputs))]
    codes = rng.integers(0, 2**bits, (out, inputs))
    zeros = np.full((out, groups), 2 ** (bits - 1)) if sym else rng.integers(lowest, 2**bits, (out, groups))
    scales = rng.uniform(0.001, 0.1, (out, groups)).astype(np.float16).astype(np.float32)
    weight = ((codes - zeros[:, g_idx]) * scales[:, g_idx]).astype(np.float32)
    return g_idx.astype(np.int32), zeros.astype(np.float32), scales, weight


def gptq(bits, out, inputs, group, sym, act_order, version):
    g_idx, zeros, scales, weight = problem(bits, out, inputs, group, sym, act_order, 1 if version == "v1" else 0)
    wf = torch.tensor(list(range(0, 32, bits)), dtype=torch.int32).unsqueeze(0)
    if bits == 3:
        wf = torch.tensor([[0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0], [0, 1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31], [0, 2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0]], dtype=torch.int32).reshape(1, 3, 12)
    me = types.SimpleNamespace(infeatures=inputs, outfeatures=out, bits=bits, bias=None, wf=wf, autogptq_cuda_available=False)
    layer = types.SimpleNamespace(weight=types.SimpleNamespace(data=torch.from_numpy(weight), dtype=torch.float32), bias=None)
    stored = zeros + 1 if version == "v2" else zeros  # the packer takes one away
    assert stored.max() <= 2**bits
    # zero points of version 2 are packed alone, so that they do not enter into the codes
    pack(me, layer, torch.from_numpy(scales), torch.from_numpy(zeros), torch.from_numpy(g_idx))
    qweight = me.qweight
    if version == "v2":
        pack(me, layer, torch.from_numpy(scales), torch.from_numpy(stored), torch.from_numpy(g_idx))
        me.qweight = qweight
    me.scales = me.scales.to(torch.float16)
    if version == "v1":
        me.scales, half = me.scales.float(), me.scales
        decoded = forward(me, torch.eye(inputs)).half()  # float32 keeps the products, which are then rounded once
        me.scales = half
    else:
        two = types.SimpleNamespace(planar=False, bits=bits, qzeros=me.qzeros, qweight=me.qweight, scales=me.scales, g_idx=me.g_idx, in_features=inputs, pack_factor=32 // bits,
                                    maxq=2**bits - 1, dequant_dtype=torch.int16 if bits == 8 else torch.int8, _init_wf_unsqueeze_buffers=lambda: None,
                                    wf_unsqueeze_zero=wf.unsqueeze(0) if bits != 3 else wf.reshape(1, 3, 12).unsqueeze(0), wf_unsqueeze_neg_one=wf.unsqueeze(-1) if bits != 3 else wf.reshape(1, 3, 12).unsqueeze(-1))
        two._dequantize_from_codes = lambda *a, **k: from_codes(two, *a, **k)
        decoded = dequantize_v2(two)
    assert np.array_equal(decoded.numpy(), weight.T.astype(np.float16))
    return {"format": "gptq", "version": version, "bits": bits, "out": out, "in": inputs, "group": group, "sym": sym, "actOrder": act_order,
            "tensors": {"qweight": encode(me.qweight.numpy()), "qzeros": encode(me.qzeros.numpy()), "scales": encode(me.scales.numpy()), "g_idx": encode(me.g_idx.numpy())},
            "weight": fnv(decoded.t().contiguous().numpy())}


def awq(out, inputs, group):
    _, zeros, scales, weight = problem(4, out, inputs, group, False, False, 0)
    layer = types.SimpleNamespace(in_features=inputs, out_features=out, bias=None, weight=types.SimpleNamespace(device="cpu", data=torch.from_numpy(weight)))
    new = lambda *a, **k: types.SimpleNamespace(w_bit=4, group_size=group, in_features=inputs)
    me = from_linear(new, layer, 4, group, False, torch.from_numpy(scales.T.copy()), torch.from_numpy(zeros.T.copy()))
    decoded = dequantize_awq(me.qweight, me.qzeros, me.scales.half(), 4, group)
    assert np.array_equal(decoded.numpy(), weight.T.astype(np.float16))
    return {"format": "awq", "bits": 4, "out": out, "in": inputs, "group": group, "sym": False, "actOrder": False,
            "tensors": {"qweight": encode(me.qweight.numpy()), "qzeros": encode(me.qzeros.numpy()), "scales": encode(me.scales.half().numpy())},
            "weight": fnv(decoded.t().contiguous().numpy())}


cases = []
for bits in (2, 3, 4, 8):
    cases.append(gptq(bits, 32, 96, 32, True, False, "v1"))
    cases.append(gptq(bits, 64, 64, 16, False, True, "v1"))
    cases.append(gptq(bits, 32, 96, 40, False, True, "v2"))  # the last group is shorter
cases.append(gptq(4, 32, 64, 64, False, False, "v2"))  # a group a row
cases.append(awq(64, 48, 16))
cases.append(awq(32, 64, 64))
print("[" + ",\n".join(json.dumps(c) for c in cases) + "]")
