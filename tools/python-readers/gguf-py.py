"""Reads GGUF files of ours with gguf-py, the reference reader, and compares: every tensor dequantized bit for bit, every key-value.

    pip install gguf==0.19.0 numpy
    node packages/cli/bin/lmq.js quantize lmq-nano -o nano.gguf --export gguf:q4_k_m
    python tools/python-readers/gguf-py.py nano.gguf …

Needs a build: our side is what tools/python-readers/gguf-values.mjs prints. Exit code 1 where something differs.
"""
import hashlib, json, os, subprocess, sys
import numpy as np
from gguf import GGUFReader, GGUFValueType, quants

HERE = os.path.dirname(os.path.abspath(__file__))


def values(path):
    reader = GGUFReader(path)
    tensors = {}
    for t in reader.tensors:
        x = np.ascontiguousarray(quants.dequantize(t.data, t.tensor_type).astype("<f4"))
        x += np.float32(0)  # -0 as 0: blocks of zeros have either sign
        tensors[t.name] = {"type": t.tensor_type.name, "shape": [int(n) for n in reversed(t.shape)], "sha256": hashlib.sha256(x.tobytes()).hexdigest()}
    metadata = {}
    for key, f in reader.fields.items():
        if key.startswith("GGUF."): continue
        v = f.contents()
        kind = f.types[-1]
        if kind in (GGUFValueType.FLOAT32, GGUFValueType.FLOAT64):
            v = [float(x) for x in v] if isinstance(v, list) else float(v)
        metadata[key] = hashlib.sha256(json.dumps(v, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest() if isinstance(v, list) and kind == GGUFValueType.STRING else v
    return {"tensors": tensors, "metadata": metadata}


bad = 0
for path in sys.argv[1:]:
    theirs = values(path)
    ours = json.loads(subprocess.run(["node", os.path.join(HERE, "gguf-values.mjs"), path], check=True, capture_output=True, text=True).stdout)
    differ = [f"{part} {name}: {mine.get(name)} here, {own.get(name)} in gguf-py"
              for part, mine, own in (("tensor", ours["tensors"], theirs["tensors"]), ("key", ours["metadata"], theirs["metadata"]))
              for name in sorted(mine.keys() | own.keys()) if mine.get(name) != own.get(name)]
    for line in differ: print(f"{path}: {line}"[:400])
    types = sorted({t["type"] for t in theirs["tensors"].values()})
    print(f"{path}: {len(theirs['tensors'])} tensors ({', '.join(types)}), {len(theirs['metadata'])} keys, {len(differ)} differ")
    bad += len(differ)
sys.exit(1 if bad else 0)
