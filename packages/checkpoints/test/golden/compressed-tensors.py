"""Golden compressed-tensors checkpoints: one linear each, compressed and decompressed by the package, with the configuration that it writes.
CPU only.

    pip install compressed-tensors==0.20.1 torch numpy
    pip install --no-deps --target OLD compressed-tensors==0.9.4     # packs widths that do not divide 32 the old way; still has act-order
    python compressed-tensors.py OLD > compressed-tensors.json
    python compressed-tensors.py --presets > compressed-tensors-presets.json

Weights are kept as the FNV-1a hash of the bits that the package decompresses to, [out, in], in the dtype that it does so.
"""
import base64, json, os, subprocess, sys

old = sys.argv[1] == "--old"
if sys.argv[1] == "--presets":
    from compressed_tensors.quantization.quant_scheme import PRESET_SCHEMES

    read = ("num_bits", "type", "symmetric", "strategy", "group_size", "block_structure", "dynamic")
    schemes = {n: {k: {f: v for f, v in json.loads(a.model_dump_json()).items() if f in read} for k, a in s.items()} for n, s in PRESET_SCHEMES.items()}
    print("{" + ",\n".join(f"{json.dumps(n)}: {json.dumps(s)}" for n, s in schemes.items()) + "}")
    sys.exit()
import torch
from compressed_tensors.compressors import *
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, QuantizationStatus

torch.manual_seed(7)
DTYPES = {torch.int32: "I32", torch.int64: "I64", torch.int8: "I8", torch.uint8: "U8", torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3"}


def raw(t):
    return t.contiguous().flatten().view(torch.uint8).numpy().tobytes() if t.numel() else b""


def fnv(data):
    h = 2166136261
    for b in data:
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return f"{h:08x}"


def qparams(w, args, dtype):
    """Scales and zero points by minimum and maximum, in the shapes that the package registers."""
    out, inputs = w.shape
    kind = args.strategy
    if kind == "tensor":
        blocks = w.reshape(1, 1, -1)
    elif kind == "channel":
        blocks = w.reshape(out, 1, -1)
    elif kind == "block":
        r, c = args.block_structure
        pad = torch.nn.functional.pad(w, (0, -inputs % c, 0, -out % r))
        blocks = pad.reshape(pad.shape[0] // r, r, pad.shape[1] // c, c).transpose(1, 2).reshape(pad.shape[0] // r, pad.shape[1] // c, r * c)
    else:
        blocks = w.reshape(out, -1, args.group_size)
    low, high = blocks.amin(-1).clamp(max=0).float(), blocks.amax(-1).clamp(min=0).float()
    top = torch.maximum(-low, high)
    n = args.num_bits
    shape = (1,) if kind == "tensor" else tuple(low.shape)
    if args.type == "float":
        return (top / 448).reshape(shape).to(dtype), None
    if args.symmetric:
        return (2 * top / (2**n - 1)).reshape(shape).to(dtype), None
    scale = ((high - low) / (2**n - 1)).to(dtype)
    zero = torch.round(torch.clamp(-(2 ** (n - 1)) - low / scale.float(), -(2 ** (n - 1)), 2 ** (n - 1) - 1))
    return scale.reshape(shape), zero.reshape(shape).to(torch.int8)


def case(format, out, inputs, dtype, inputs_args=None, **args):
    args = QuantizationArgs(**args)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, input_activations=inputs_args and QuantizationArgs(**inputs_args))
    w = (torch.randn(out, inputs) * (1 + torch.rand(out, 1))).to(dtype)
    if not args.symmetric:
        w += 0.5
    state = {"weight": w}
    if format == "nvfp4-pack-quantized":
        state["weight_global_scale"] = (448 * 6 / w.abs().max().float()).reshape(1)
        local = w.reshape(out, -1, 16).abs().amax(-1).float() / 6 * state["weight_global_scale"]
        state["weight_scale"] = local.clamp(2**-9, 448).to(torch.float8_e4m3fn).float()
    elif format.startswith("mx"):
        top = {4: 2, 6: 2, 8: 8}[args.num_bits]
        state["weight_scale"] = 2.0 ** (torch.floor(torch.log2(w.reshape(out, -1, 32).abs().amax(-1).float())) - top)
    else:
        state["weight_scale"], zero = qparams(w, args, dtype)
        if zero is not None:
            state["weight_zero_point"] = zero
    if args.actorder == "group":
        state["weight_g_idx"] = (torch.randperm(inputs) // args.group_size).to(torch.int32)
    if old:
        compressor = BaseCompressor.load_from_registry(format)
        stored = {k: v for k, v in state.items() if k != "weight"}
        stored |= compressor.compress_weight(
            weight=w, scale=state["weight_scale"], zero_point=state.get("weight_zero_point"), g_idx=state.get("weight_g_idx"), quantization_args=args
        )
        if args.symmetric:
            decoded = compressor.decompress_weight(stored, args)
        else:  # it packs these zero points, and cannot unpack them
            from compressed_tensors.compressors.quantized_compressors.pack_quantized import unpack_from_int32
            from compressed_tensors.quantization.lifecycle.forward import dequantize

            zero = unpack_from_int32(stored["weight_zero_point"], args.num_bits, (out, state["weight_scale"].shape[1]), packed_dim=0)
            assert torch.equal(zero, state["weight_zero_point"])
            decoded = dequantize(unpack_from_int32(stored["weight_packed"], args.num_bits, w.shape), state["weight_scale"], zero, args)
    else:
        compressor = BaseCompressor.get_value_from_registry(format)
        stored = compressor.compress(dict(state), scheme)
        decoded = compressor.decompress(dict(stored), scheme)["weight"]
    assert decoded.shape == w.shape
    stored = {k: v for k, v in stored.items() if v is not None}
    config = QuantizationConfig(config_groups={"group_0": scheme}, format=format, quantization_status=QuantizationStatus.COMPRESSED, ignore=["lm_head"])
    return {
        "format": format, "old": old, "out": out, "in": inputs, "config": json.loads(config.model_dump_json()),
        "tensors": {k: {"dtype": DTYPES[v.dtype], "shape": list(v.shape), "data": base64.b64encode(raw(v)).decode()} for k, v in sorted(stored.items())},
        "dtype": DTYPES[decoded.dtype], "weight": fnv(raw(decoded)),
    }


PACK, INT, FLOAT = "pack-quantized", "int-quantized", "float-quantized"
half, brain, single = torch.float16, torch.bfloat16, torch.float32
group = lambda bits, size, **more: dict(num_bits=bits, type="int", strategy="group", group_size=size, **more)
cases = []
if old:
    for bits in (3, 5, 6, 7):
        cases.append(case(PACK, 8, 96, half, **group(bits, 32)))
    cases.append(case(PACK, 40, 64, brain, **group(3, 32, symmetric=False)))
    cases.append(case(PACK, 16, 64, half, **group(4, 32, symmetric=False)))
    cases.append(case(PACK, 8, 64, half, **group(4, 16, actorder="group")))
    cases.append(case(PACK, 5, 132, brain, num_bits=3, type="int", strategy="channel"))
else:
    for bits in (2, 3, 4, 5, 6, 7, 8):
        cases.append(case(PACK, 8, 96, brain, **group(bits, 32)))
    for bits in (2, 3, 4, 8):
        cases.append(case(PACK, 20, 64, half, **group(bits, 16, symmetric=False)))
    cases.append(case(PACK, 12, 64, brain, num_bits=4, type="int", strategy="channel", symmetric=False))
    cases.append(case(PACK, 5, 132, brain, num_bits=3, type="int", strategy="channel"))
    cases.append(case(PACK, 5, 43, half, num_bits=4, type="int", strategy="channel"))
    cases.append(case(PACK, 6, 32, half, num_bits=4, type="int", strategy="tensor"))
    token = dict(num_bits=8, type="int", strategy="token", dynamic=True)
    cases.append(case(INT, 9, 24, brain, token, num_bits=8, type="int", strategy="channel"))
    cases.append(case(INT, 9, 24, single, token, num_bits=8, type="int", strategy="tensor", symmetric=False))
    cases.append(case(INT, 9, 32, half, token, **group(4, 16, symmetric=False)))
    cases.append(case("naive-quantized", 9, 32, half, **group(8, 16)))
    cases.append(case("naive-quantized", 20, 30, half, num_bits=8, type="int", strategy="block", block_structure=[16, 16]))
    f8 = dict(num_bits=8, type="float")
    cases.append(case(FLOAT, 9, 24, single, dict(**f8, strategy="tensor"), **f8, strategy="tensor"))
    cases.append(case(FLOAT, 9, 24, brain, dict(**f8, strategy="token", dynamic=True), **f8, strategy="channel"))
    cases.append(case(FLOAT, 40, 70, brain, dict(**f8, strategy="group", group_size=32, dynamic=True), **f8, strategy="block", block_structure=[32, 32]))
    cases.append(case("naive-quantized", 9, 32, half, **f8, strategy="group", group_size=16))
    mx = lambda bits: dict(num_bits=bits, type="float", strategy="group", group_size=32, scale_dtype="torch.uint8", zp_dtype="torch.uint8")
    cases.append(case("mxfp4-pack-quantized", 8, 64, brain, **mx(4)))
    cases.append(case("mxfp6-pack-quantized", 8, 64, brain, **mx(6)))
    cases.append(case("mxfp8-quantized", 8, 64, brain, mx(8) | dict(dynamic=True), **mx(8)))
    nv = dict(num_bits=4, type="float", strategy="tensor_group", group_size=16, scale_dtype="torch.float8_e4m3fn", zp_dtype="torch.float8_e4m3fn")
    cases.append(case("nvfp4-pack-quantized", 8, 64, brain, nv | dict(dynamic="local"), **nv))

lines = [json.dumps(c) for c in cases]
if old:
    print("\n".join(lines))
else:
    lines += subprocess.run([sys.executable, __file__, "--old"], env={**os.environ, "PYTHONPATH": sys.argv[1]}, check=True, capture_output=True, text=True).stdout.splitlines()
    print("[" + ",\n".join(lines) + "]")
