"""What the readers of folders share: lmq converts a model to them, and a function checks each."""
import subprocess, sys, tempfile
from pathlib import Path
from safetensors.torch import load_file
from _packages import ROOT, lmq, ours


def parts_of(stored, module):
    return {n.removeprefix(f"{module}."): t for n, t in stored.items() if n.startswith(f"{module}.")}


def check_folders(format, check):
    """Calls check(folder, tensors, what lmq decodes each linear to) for every folder of the format; exits with the number that failed."""
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["node", ROOT / "tools/python-readers/sources.mjs", format, Path(tmp) / "sources"], check=True)
        failed = 0
        for source in sorted((Path(tmp) / "sources").iterdir()):
            folder = Path(tmp) / source.name
            _, _, variant = source.name.partition("+")
            lmq("convert", source, "-o", folder, "--export", ":".join(filter(None, [format.replace("_", "-"), variant])))
            decoded = {name: t for name, t in ours(folder).items() if name.endswith("_proj.weight")}
            try:
                check(folder, load_file(folder / "model.safetensors"), decoded)
                print(f"{folder.name}: {len(decoded)} linears are the same")
            except Exception as e:
                failed += 1
                print(f"{folder.name}: FAILED {type(e).__name__}: {e}")
        sys.exit(failed)


def load(folder, dtype, but=()):
    """The model as transformers loads it, on the CPU; every tensor must find its place, but those of these names."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True, device_map="cpu")
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        left = [name for name in info.get(key) or () if not str(name).endswith(but)]
        assert not left, f"{key} {left}"
    return model


def run(model):
    """One forward pass. Runtimes may repack the weights on it."""
    import torch

    with torch.no_grad():
        assert torch.isfinite(model(torch.arange(8)[None]).logits).all()
