"""What the readers share: functions out of unpacked packages, and our own decoding of a folder."""
import ast, glob, json, shutil, subprocess, sys, tempfile
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoConfig
from transformers.quantizers.auto import AutoQuantizationConfig

ROOT = Path(__file__).resolve().parents[2]


def function_of(src, path, name, scope=()):
    """A function of a package's file, without importing the package, which needs a GPU's tools."""
    (path,) = glob.glob(f"{src}/{path}")
    found = [n for n in ast.walk(ast.parse(open(path).read())) if isinstance(n, ast.FunctionDef) and n.name == name]
    found[0].decorator_list = []
    names = {"torch": torch, "t": torch, "np": np, "nn": torch.nn, "get_best_device": lambda: "cpu", **vars(__import__("typing")), **dict(scope)}
    exec(compile(ast.Module(found[:1], []), path, "exec"), names)
    return names[name]


def lmq(*args):
    subprocess.run(["node", ROOT / "packages/cli/bin/lmq.js", *map(str, args), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def tensors_of(folder):
    out = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        out.update(load_file(file))
    return out


def ours(folder):
    """Every weight as lmq decodes it, in float32."""
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / "model"
        shutil.copytree(folder, copy)
        config = json.loads((copy / "config.json").read_text())
        config.pop("torch_dtype", None)
        (copy / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
        lmq("convert", copy, "-o", Path(tmp) / "decoded", "--export", "safetensors")
        return tensors_of(Path(tmp) / "decoded")


def config_of(folder, method):
    """quantization_config, as transformers understands it too."""
    config = AutoConfig.from_pretrained(folder).quantization_config
    assert config["quant_method"] == method, config
    AutoQuantizationConfig.from_dict(dict(config))
    return config


def same(what, a, b):
    if a.shape != b.shape or not torch.equal(a, b):
        sys.exit(f"{what}: differs")
