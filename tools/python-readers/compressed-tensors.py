"""Loads folders that lmq wrote, one in each format of compressed-tensors, with transformers and compressed-tensors, on the CPU, and compares
every weight bit for bit with what lmq decodes it to.

    pip install torch transformers compressed-tensors==0.20.1 safetensors
    python tools/python-readers/compressed-tensors.py               # after a build

Packed zero points are loaded with dequantize=True: without it, compressed-tensors 0.20.1 makes room for unpacked ones. With it, transformers
5.24 decompresses every linear by the first scheme of the configuration. So models with both, whoever wrote them, are loaded by
compressed-tensors into a model that transformers made without weights.
"""
import json, subprocess, sys, tempfile
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path = [p for p in sys.path if Path(p or ".").resolve() != here]  # files beside this one have packages' names
import torch
from compressed_tensors.compressors import BaseCompressor, ModelCompressor
from compressed_tensors.quantization import QuantizationScheme, apply_quantization_config
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, CompressedTensorsConfig

ROOT = Path(__file__).resolve().parents[2]


def load_unaided(folder, stored):
    """The model as compressed-tensors itself loads it: schemes put on a model in memory, then the stored tensors, then decompressed."""
    config = AutoConfig.from_pretrained(folder)
    scheme = {k: v for k, v in config.quantization_config.items() if k != "quant_method"}
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    compressor = ModelCompressor.from_compression_config(CompressedTensorsConfig(**scheme))
    apply_quantization_config(model, compressor.quantization_config, run_compressed=False)
    compressor.compress_model(model=model)
    missing, unexpected = model.load_state_dict(stored, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, f"missing {missing}, unexpected {unexpected}"
    model.tie_weights()
    compressor.decompress_model(model=model)
    return model


def check(folder, decoded):
    stored = load_file(folder / "model.safetensors")
    groups = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"]
    packed = any(n.endswith("weight_zero_point") and t.dtype == torch.int32 for n, t in stored.items())
    if packed and len(groups) > 1:
        model = load_unaided(folder, stored)
    else:
        how = {"quantization_config": CompressedTensorsConfig(dequantize=True)} if packed else {}
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, output_loading_info=True, **how)
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            assert not info.get(key), f"{key} {info[key]}"
    with torch.no_grad():
        assert torch.isfinite(model(torch.arange(8)[None]).logits).all()  # decompresses first
    for name, want in decoded.items():
        module = name.removesuffix(".weight")
        want = want.bfloat16()
        loaded = model.get_submodule(module)
        assert torch.equal(loaded.weight, want), f"transformers loads other weights of {module}"
        # the package alone
        scheme = QuantizationScheme(**next(g for g in groups.values() if module in g["targets"] or g["targets"] == ["Linear"]))
        if not packed:
            assert loaded.quantization_scheme.weights == scheme.weights, f"{module} has another scheme"
        parts = {n.removeprefix(f"{module}."): t for n, t in stored.items() if n.startswith(f"{module}.")}
        weight = BaseCompressor.get_value_from_registry(scheme.format).decompress(parts, scheme)["weight"]
        assert torch.equal(weight.bfloat16(), want), f"compressed-tensors decompresses other weights of {module}"


with tempfile.TemporaryDirectory() as tmp:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else tmp)
    if out == Path(tmp):
        subprocess.run(["node", ROOT / "tools/python-readers/compressed-tensors.mjs", out], check=True)
    failed = 0
    for folder in sorted(p for p in out.iterdir() if p.is_dir()):
        decoded = load_file(out / f"{folder.name}-decoded.safetensors")
        try:
            check(folder, decoded)
            print(f"{folder.name}: {len(decoded)} linears are the same")
        except Exception as e:
            failed += 1
            print(f"{folder.name}: FAILED {type(e).__name__}: {e}")
    sys.exit(failed)
