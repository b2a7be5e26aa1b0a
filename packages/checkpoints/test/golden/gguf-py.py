"""A GGUF file of every type, and an importance matrix, as gguf-py writes them; values as gguf-py dequantizes them.

    pip install gguf==0.19.0 numpy
    python gguf-py.py > gguf-py.json

Types that gguf-py does not quantize to hold random bytes with sound scales. Values are kept as the FNV-1a hash of their float32 bits.
"""
import base64, json, tempfile
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter, quants

rng = np.random.default_rng(6)
SCALES = {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
          "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0]}


def fnv(x):
    h = 2166136261
    for b in (np.ascontiguousarray(x.astype("<f4")) + np.float32(0)).view(np.uint8).reshape(-1).tolist():
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return f"{h:08x}"


def data_of(name):
    """Two rows of 256 values as stored bytes."""
    t = GGMLQuantizationType[name]
    x = rng.normal(size=(2, 256)).astype(np.float32)
    try:
        return quants.quantize(x, t)
    except NotImplementedError:
        block, size = GGML_QUANT_SIZES[t]
        raw = rng.integers(0, 256, (2 * 256 // block, size), dtype=np.uint8)
        for at in SCALES.get(name, []):
            raw[:, at:at + 2] = np.frombuffer(rng.uniform(0.01, 1, len(raw)).astype("<f2").tobytes(), np.uint8).reshape(-1, 2)
        if name == "IQ1_M":  # its scale lies in the high nibbles of four words
            words = raw[:, 48:56].view("<u2"); bits = rng.uniform(0.01, 1, len(raw)).astype("<f2").view("<u2")
            for i in range(4): words[:, i] = (words[:, i] & 0x0FFF) | (((bits >> (4 * i)) & 15) << 12)
        if name == "MXFP4": raw[:, 0] = rng.integers(100, 140, len(raw))
        if name == "NVFP4": raw[:, :4] = rng.integers(0, 0x7F, (len(raw), 4))
        return raw.reshape(2, -1)


def written(fill, arch="test"):
    with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
        w = GGUFWriter(f.name, arch)
        fill(w)
        w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
        return open(f.name, "rb").read(), {t.name: t for t in GGUFReader(f.name).tensors}


def every(w):
    w.add_uint32("test.u32", 7); w.add_float32("test.f32", 0.1); w.add_bool("test.bool", True)
    w.add_array("test.strings", ["a", "é", ""]); w.add_array("test.numbers", [1, -2, 3])
    w.add_tensor("F32", rng.normal(size=(2, 256)).astype(np.float32))
    w.add_tensor("F16", rng.normal(size=(2, 256)).astype(np.float16))
    for t in quants._type_traits: w.add_tensor(t.name, data_of(t.name), raw_dtype=t)


def imatrix(w):
    w.add_type("imatrix"); w.add_array("imatrix.datasets", ["wiki.txt"]); w.add_uint32("imatrix.chunk_count", 5); w.add_uint32("imatrix.chunk_size", 512)
    for name, runs, columns in (("blk.0.attn_q.weight", 1, 8), ("blk.0.ffn_up_exps.weight", 3, 4)):
        w.add_tensor(name + ".in_sum2", rng.uniform(0, 9, (runs, columns)).astype(np.float32))
        w.add_tensor(name + ".counts", np.float32([[100], [0], [7]][:runs]))


file, tensors = written(every)
matrix, sums = written(imatrix)
print(json.dumps({
    "file": base64.b64encode(file).decode(),
    "values": {n: fnv(quants.dequantize(t.data, t.tensor_type)) for n, t in tensors.items()},
    "imatrix": base64.b64encode(matrix).decode(),
    "sums": {n: t.data.reshape(-1).tolist() for n, t in sums.items()},
}, indent=1))
