"""Golden data of the small floats, MX, NVFP4, bitsandbytes and the packings, from the packages that define them. CPU only.

    pip install torch ml_dtypes bitsandbytes==0.50.2 compressed-tensors==0.20.1 torchao==0.18.0
    pip install --no-deps --target OLD compressed-tensors==0.9.4
    pip download --no-deps auto-gptq==0.7.1 autoawq==0.2.9        # unpacked into SRC; only two functions are read from them
    python floats.py OLD SRC > floats.json

Outputs are kept as FNV-1a hashes of their bytes; inputs are made by the same generator in the test. Run it on a processor with fused
multiply-add: without, torch.linspace gives other last bits, and with it some levels of the dynamic map.
"""
import ast, glob, json, sys, types
import numpy as np
import torch
import ml_dtypes
import bitsandbytes.functional as bnb

torch.manual_seed(0)


def fnv(data):
    h = 2166136261
    for b in np.ascontiguousarray(data).view(np.uint8).reshape(-1).tolist():
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return f"{h:08x}"


def lcg(seed, n):
    out = np.empty(n, np.uint32)
    s = seed
    for i in range(n):
        s = (1664525 * s + 1013904223) & 0xFFFFFFFF
        out[i] = s
    return out


def weights(seed, rows, cols, spread=0):
    """Sums of three uniform numbers; every 16 columns times a power of two in 2^0 ... 2^-spread."""
    u = (lcg(seed, 3 * rows * cols) >> 12).astype(np.int64).reshape(-1, 3).sum(1)
    x = ((u - 1572864) / 2**20 / 16).astype(np.float32).reshape(rows, cols)
    if spread:
        e = (lcg(seed + 1, rows * -(-cols // 16)) >> 20).reshape(rows, -1) % (spread + 1)
        x = x * np.exp2(-np.repeat(e, 16, 1)[:, :cols].astype(np.float32))
    return x


def anything(seed, n):
    """float32 of any bits, but for NaN and infinity, which become 0; every second one moved near 1."""
    b = lcg(seed, n)
    b[1::2] = (b[1::2] & 0x8FFFFFFF) | 0x38000000
    b[(b & 0x7F800000) == 0x7F800000] = 0
    return b.view(np.float32)


out = {"versions": {"torch": torch.__version__, "ml_dtypes": ml_dtypes.__version__}}

# --- floats
x = anything(1, 40000)
t = torch.from_numpy(x.copy())
ml = {"fp8e4m3": "float8_e4m3fn", "fp8e5m2": "float8_e5m2", "fp6e2m3": "float6_e2m3fn", "fp6e3m2": "float6_e3m2fn", "fp4e2m1": "float4_e2m1fn"}
out["floats"] = {}
for name, dtype in ml.items():
    kind = getattr(ml_dtypes, dtype)
    codes = np.arange(2 ** {"8": 8, "6": 6, "4": 4}[name[2]], dtype=np.uint8)
    values = codes.view(kind).astype(np.float32)
    out["floats"][name] = {
        "values": [float(v) if np.isfinite(v) else str(v) for v in values],
        "beyond": fnv(x.astype(kind).view(np.uint8)),
    }
out["floats"]["fp8e4m3"]["saturated"] = fnv(t.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy())
out["floats"]["fp8e5m2"]["saturated"] = fnv(t.clamp(-57344, 57344).to(torch.float8_e5m2).view(torch.uint8).numpy())
out["e8m0"] = fnv(np.arange(255, dtype=np.uint8).view(ml_dtypes.float8_e8m0fnu).astype(np.float32))

# --- tables
out["tables"] = {n: [float(v) for v in bnb.get_4bit_type(n, device="cpu")] for n in ("nf4", "fp4", "af4")}
out["dynamic"] = {s: fnv(bnb.create_dynamic_map(signed=s == "signed").numpy()) for s in ("signed", "unsigned")}

# --- bitsandbytes
# The package has several implementations that differ on ties and in last bits. The golden one is its portable Python, taken from its file by
# the operator it is registered for; `differ` counts the codes in which the one that runs on this CPU differs.
import bitsandbytes.backends.default.ops as portable_ops
from bitsandbytes.backends.utils import _get_4bit_code


def portable(operator):
    tree = ast.parse(open(portable_ops.__file__).read())
    (found,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "_" and ast.literal_eval(n.decorator_list[0].args[0]) == f"bitsandbytes::{operator}"]
    found.decorator_list, found.name = [], "found"
    scope = dict(vars(portable_ops))
    exec(compile(ast.Module([found], []), operator, "exec"), scope)
    return scope["found"]


quantize_blockwise, quantize_4bit = portable("quantize_blockwise"), portable("quantize_4bit")
dequantize_blockwise = portable_ops._dequantize_blockwise_compute.__wrapped__
dequantize_4bit = portable_ops._dequantize_4bit_compute.__wrapped__
signed_map = bnb.create_dynamic_map()


def on_edges(table, block):
    """Blocks whose numbers are the midpoints of a table and their float32 neighbours; the first number, 1, sets the scale."""
    v = np.sort(np.array(table, np.float32))
    mid = (v[:-1] + v[1:]) / np.float32(2)
    near = np.concatenate([np.nextafter(mid, np.float32(-2)), mid, np.nextafter(mid, np.float32(2)), np.zeros(1, np.float32)])
    near = near[np.arange(block - 1) % len(near)]
    return np.concatenate([np.ones(1, np.float32), near]).astype(np.float32).reshape(1, block)


out["bitsandbytes"] = []
for kind in ("nf4", "fp4"):
    cases = [(weights(7, 24, 256), "weights", b) for b in (32, 64, 128, 256, 512, 2048)]
    cases += [(weights(8, 7, 50), "odd", 64), (weights(9, 96, 512), "large", 64), (on_edges(out["tables"][kind], 64), "edges", 64)]
    cases += [(np.zeros((2, 64), np.float32), "zeros", 64)]
    for w, name, block in cases:
        W = torch.from_numpy(w.copy())
        q, absmax = quantize_4bit(W, block, kind, torch.uint8)
        native, state = bnb.quantize_4bit(W, blocksize=block, quant_type=kind)
        case = {"table": kind, "input": name, "blockSize": block, "packed": fnv(q.numpy()), "absmax": fnv(absmax.numpy())}
        decode = lambda scales: dequantize_4bit(q.reshape(-1), scales, _get_4bit_code(kind, q.device), block, w.shape, torch.float32)
        case |= {"decoded": fnv(decode(absmax).numpy()), "differ": int((native != q).sum())}
        offset = absmax.mean()
        codes, nested = quantize_blockwise(absmax - offset, signed_map, 256)
        scales = dequantize_blockwise(codes, nested, signed_map, 256, torch.float32) + offset
        case["double"] = {"offset": float(offset), "scales": fnv(codes.numpy()), "nested": fnv(nested.numpy()), "decoded": fnv(decode(scales).numpy())}
        out["bitsandbytes"].append(case)
out["blockwise"] = []
for signed in (True, False):
    m = bnb.create_dynamic_map(signed=signed)
    for name, v in (("weights", weights(10, 1, 4096).reshape(-1)), ("edges", on_edges(m.tolist(), 1024).reshape(-1)), ("odd", weights(11, 1, 700).reshape(-1))):
        v = torch.from_numpy(v if signed else np.abs(v))
        codes, absmax = quantize_blockwise(v, m, 256)
        native, _ = torch.ops.bitsandbytes.quantize_blockwise.default(v, m.clone(), 256)
        out["blockwise"].append({"signed": signed, "input": name, "codes": fnv(codes.numpy()), "absmax": fnv(absmax.numpy()), "differ": int((codes != native).sum())})

# --- MX
import torchao.prototype.mx_formats.mx_tensor as mx
from torchao.prototype.mx_formats.constants import DTYPE_FP6_E2M3, DTYPE_FP6_E3M2
from torchao.prototype.mx_formats.config import ScaleCalculationMode
import compressed_tensors.quantization.utils.mxfp_utils as ctmx
from compressed_tensors.quantization.utils.fp4_utils import cast_to_fp4
from compressed_tensors.quantization.quant_args import FP6_E2M3_DATA


def unpack4(p):
    return torch.stack([p & 15, p >> 4], -1).reshape(p.shape[0], -1)


W = torch.from_numpy(weights(20, 32, 256, 20).copy())
W[0, :32] = 0
W[1, 32:64] *= 2.0**100
W[2, 64:96] *= 2.0**-60
edges = torch.from_numpy((np.array([1 + i / 64 for i in range(64)], np.float32)).reshape(64, 1).repeat(32, 1))  # every absmax mantissa
edges[:, 1:] *= torch.tensor([i / 31 for i in range(31)], dtype=torch.float32)
inputs = {"weights": W, "edges": edges}
elements = {"fp8e4m3": torch.float8_e4m3fn, "fp8e5m2": torch.float8_e5m2, "fp6e2m3": DTYPE_FP6_E2M3, "fp6e3m2": DTYPE_FP6_E3M2, "fp4e2m1": torch.float4_e2m1fn_x2}
out["mx"] = []
for iname, w in inputs.items():
    for name, dtype in elements.items():
        for rule, mode in (("floor", ScaleCalculationMode.FLOOR), ("even", ScaleCalculationMode.EVEN)):
            s, d = mx.to_mx(w.clone(), dtype, 32, mode)
            d = d.view(torch.uint8)
            codes = unpack4(d) if name == "fp4e2m1" else d
            out["mx"].append({"input": iname, "format": name, "rule": rule, "source": "torchao", "scales": fnv(s.view(torch.uint8).numpy()), "codes": fnv(codes.numpy())})
    for name, bits in (("fp4e2m1", 4), ("fp6e2m3", 6), ("fp8e4m3", 8)):
        g = w.reshape(w.shape[0], -1, 32)
        e = ctmx.generate_mx_scales(g.abs().amax(-1), bits).clamp(0, 255).round().to(torch.uint8)
        v = (g / torch.exp2(e.float() - 127).unsqueeze(-1)).reshape(w.shape)
        if bits == 8:
            v = v.clamp(-448, 448).to(torch.float8_e4m3fn).float()
        elif bits == 6:
            v = FP6_E2M3_DATA.cast_to_fp6(v.clamp(-7.5, 7.5))
        else:
            v = cast_to_fp4(v.clamp(-6, 6))
        # values, not codes: the sign of zero is not theirs to choose
        out["mx"].append({"input": iname, "format": name, "rule": "compressed-tensors", "source": "compressed-tensors", "scales": fnv(e.numpy()), "values": fnv((v + 0.0).numpy())})

# --- NVFP4
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam
from compressed_tensors.quantization.lifecycle.forward import quantize, dequantize
import torchao.prototype.mx_formats.nvfp4_tensor as nv

out["nvfp4"] = []
for iname, w in (("weights", torch.from_numpy(weights(21, 32, 256, 9).copy())), ("spread", torch.from_numpy(weights(22, 16, 128, 30).copy()))):
    w[0, :16] = 0
    args = QuantizationArgs(num_bits=4, type="float", strategy="tensor_group", group_size=16, symmetric=True, scale_dtype=torch.float8_e4m3fn, zp_dtype=torch.float8_e4m3fn)
    g = w.reshape(w.shape[0], -1, 16)
    gs = generate_gparam(w.min(), w.max())
    scale, _ = calculate_qparams(g.amin(-1), g.amax(-1), args, global_scale=gs)
    q = quantize(w.clone(), scale, torch.zeros_like(scale), args, dtype=torch.float32, global_scale=gs)
    back = dequantize(q, scale.float(), args=args, global_scale=gs, dtype=torch.float32)
    out["nvfp4"].append({"input": iname, "rule": "compressed-tensors", "global": float(gs), "scales": fnv(scale.to(torch.float8_e4m3fn).view(torch.uint8).numpy()), "values": fnv((q + 0.0).numpy()), "decoded": fnv((back + 0.0).numpy())})
    pt = nv.per_tensor_amax_to_scale(w.abs().max())
    s, d = nv.nvfp4_quantize(w.clone(), 16, pt)
    out["nvfp4"].append({"input": iname, "rule": "torchao", "global": float(pt), "scales": fnv(s.view(torch.uint8).numpy()), "codes": fnv(unpack4(d.view(torch.uint8)).numpy())})

# --- packings
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

old_root, src_root = sys.argv[1:3]


def function_of(path, name):
    """A function of a file, without importing its package."""
    (path,) = glob.glob(path)
    found = [n for n in ast.walk(ast.parse(open(path).read())) if isinstance(n, ast.FunctionDef) and n.name == name]
    found[0].decorator_list = []
    scope = {"torch": torch, "np": np, "math": __import__("math"), "nn": torch.nn, **vars(__import__("typing")),
             "transformers": types.SimpleNamespace(pytorch_utils=types.SimpleNamespace(Conv1D=type("Conv1D", (), {}))), "get_best_device": lambda: "cpu"}
    exec(compile(ast.Module(found[:1], []), path, "exec"), scope)
    return scope[name]


old_pack = function_of(f"{old_root}/compressed_tensors/compressors/quantized_compressors/pack_quantized.py", "pack_to_int32")
ints = lambda seed, rows, cols, bits: (lcg(seed, rows * cols) >> (32 - bits)).astype(np.uint8).reshape(rows, cols)
out["packing"] = []
for bits in range(1, 9):
    for rows, cols in ((5, 64), (6, 37), (2 * (32 // bits), 7)):
        c = ints(30 + bits, rows, cols, bits)
        signed = torch.from_numpy((c.astype(np.int16) - 2 ** (bits - 1)).astype(np.int8))
        for dim, along in ((1, "cols"), (0, "rows")):
            out["packing"].append({"format": "compressed-tensors", "packing": "stream", "bits": bits, "rows": rows, "cols": cols, "along": along, "words": fnv(pack_to_int32(signed, bits, dim).contiguous().numpy())})
            if dim == 1 or rows % (32 // bits) == 0:  # else it pads the wrong axis and fails
                out["packing"].append({"format": "compressed-tensors", "packing": "whole", "bits": bits, "rows": rows, "cols": cols, "along": along, "words": fnv(old_pack(signed, bits, dim).contiguous().numpy())})

gptq_pack = function_of(f"{src_root}/auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py", "pack")
for bits in (2, 3, 4, 8):
    rows, inputs, group = 64, 96, 32
    c = ints(40 + bits, rows, inputs, bits)
    z = np.maximum(ints(50 + bits, rows, inputs // group, bits), 1)
    per_column = np.repeat(z, group, 1).astype(np.float32)
    layer = types.SimpleNamespace(weight=types.SimpleNamespace(data=torch.from_numpy(c - per_column), dtype=torch.float32), bias=None)
    me = types.SimpleNamespace(infeatures=inputs, group_size=group, bits=bits, bias=None)
    gptq_pack(me, layer, torch.ones(rows, inputs // group), torch.from_numpy(z.astype(np.float32)), None)
    out["packing"].append({"format": "gptq", "bits": bits, "rows": rows, "cols": inputs, "group": group, "words": fnv(me.qweight.numpy()), "zeros": fnv(me.qzeros.numpy())})

from_linear = function_of(f"{src_root}/autoawq-*/awq/modules/linear/gemm.py", "from_linear")
rows, inputs, group = 64, 64, 32
c, z = ints(60, rows, inputs, 4), ints(61, rows, inputs // group, 4)
layer = types.SimpleNamespace(in_features=inputs, out_features=rows, bias=None, weight=types.SimpleNamespace(device="cpu", data=torch.from_numpy(c - np.repeat(z, group, 1).astype(np.float32))))
me = from_linear(lambda *a, **k: types.SimpleNamespace(w_bit=4, group_size=group, in_features=inputs), layer, 4, group, False, torch.ones(inputs // group, rows), torch.from_numpy(z.T.astype(np.float32).copy()))
out["packing"].append({"format": "awq", "rows": rows, "cols": inputs, "group": group, "words": fnv(me.qweight.numpy()), "zeros": fnv(me.qzeros.numpy())})

lines = []
for key, value in out.items():
    if isinstance(value, list):
        body = ",\n".join("    " + json.dumps(v) for v in value)
        lines.append(f'  "{key}": [\n{body}\n  ]')
    else:
        lines.append(f'  "{key}": {json.dumps(value)}')
print("{\n" + ",\n".join(lines) + "\n}")
