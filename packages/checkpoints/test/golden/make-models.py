#!/usr/bin/env python3
"""Golden facts about the test models, read with `struct` only. Writes models.json beside this file.

usage: make-models.py <folder of the models>
"""
import json
import struct
import sys
from pathlib import Path

models = Path(sys.argv[1])
out = {}


def fnv(data):
    h = 2166136261
    for b in data:
        h = ((h ^ b) * 16777619) & 0xFFFFFFFF
    return h


for name in ["lmq-nano", "lmq-nano-moe", "tinystories-656K"]:
    raw = (models / name / "model.safetensors").read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + n])
    meta = header.pop("__metadata__", {})
    picks = sorted(header)[:: max(1, len(header) // 6)]
    tensors = {}
    for t in picks:
        e = header[t]
        a, b = e["data_offsets"]
        data = raw[8 + n + a : 8 + n + b]
        code = {"F32": "I", "BF16": "H", "F16": "H"}[e["dtype"]]
        tensors[t] = {"dtype": e["dtype"], "shape": e["shape"], "fnv": fnv(data)}
        if name.startswith("lmq-nano"):
            tensors[t]["bits"] = struct.unpack(f"<4{code}", data[: 4 * struct.calcsize(code)])
    out[name] = {
        "count": len(header),
        "metadata": meta,
        "bytes": sum(e["data_offsets"][1] - e["data_offsets"][0] for e in header.values()),
        "tensors": tensors,
    }

# GGUF: scalars, the tensor table, first values
raw = (models / "stories260K/stories260K-f32.gguf").read_bytes()
at = 0


def take(fmt):
    global at
    (v,) = struct.unpack_from("<" + fmt, raw, at)
    at += struct.calcsize("<" + fmt)
    return v


def word():
    return take("I" if version == 1 else "Q")


def text():
    global at
    n = word()
    s = raw[at : at + n].decode()
    at += n
    return s


FMT = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def value(t):
    if t == 8:
        return text()
    if t == 9:
        e, n = take("I"), word()
        items = [value(e) for _ in range(n)]
        return {"length": n}
    return take(FMT[t])


assert take("I") == 0x46554747
version = take("I")
nt, nk = word(), word()
kv = {}
for _ in range(nk):
    k = text()
    kv[k] = value(take("I"))
infos = []
for _ in range(nt):
    name = text()
    dims = [word() for _ in range(take("I"))]
    infos.append((name, dims[::-1], take("I"), take("Q")))
align = kv.get("general.alignment", 32)
start = -(-at // align) * align
tensors = {}
for name, shape, t, offset in infos[::10]:
    n = 1
    for d in shape:
        n *= d
    assert t == 0
    data = raw[start + offset : start + offset + 4 * n]
    tensors[name] = {"shape": shape, "fnv": fnv(data)}
out["stories260K"] = {"version": version, "count": nt, "metadata": kv, "tensors": tensors}

Path(__file__).with_name("models.json").write_text(json.dumps(out, indent=1) + "\n")
