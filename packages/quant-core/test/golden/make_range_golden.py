"""Golden vectors of range choices, made by the published code itself: GPTQModel's fallback strategies and smoothers, its 2-bit range search with
neighbour zero points and the trits it keeps from IST-DASLab/gptq, and llm-compressor's search weighted by importance.

Run: python make_range_golden.py GPTQMODEL LLMCOMPRESSOR > range.json, with the folders that hold the packages' sources (gptqmodel 7.7.0,
llmcompressor 0.14.0); needs torch, transformers, compressed-tensors. Tests need only range.json.

Only the modules with the arithmetic are loaded; what they import besides (logging, registries) is replaced by stand-ins.

Weights come from a linear congruential generator that any language can repeat: s <- (1664525 s + 1013904223) mod 2**32, u = s / 2**32.
"""
import ast
import importlib
import json
import re
import sys
import time
import types
from types import SimpleNamespace

import torch
import transformers

GPTQMODEL, LLMCOMPRESSOR = sys.argv[1:3]


def stand_in(name, path=None, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    if path:
        module.__path__ = [path]
    sys.modules[name] = module


class Silent:
    def __getattr__(self, _):
        return lambda *a, **k: None


root = f"{GPTQMODEL}/gptqmodel"
stand_in("pcre", compile=re.compile, Flag=SimpleNamespace(), **{n: getattr(re, n) for n in ("match", "search", "sub", "fullmatch")})
stand_in("gptqmodel", root)
stand_in("gptqmodel.quantization", f"{root}/quantization")
stand_in("gptqmodel.utils", f"{root}/utils")
stand_in("gptqmodel.utils.logger", setup_logger=Silent)
stand_in("gptqmodel.adapter", f"{root}/adapter")
stand_in("gptqmodel.adapter.adapter", Lora=None, normalize_adapter=None)
config = importlib.import_module("gptqmodel.quantization.config")
quantizer = importlib.import_module("gptqmodel.quantization.quantizer")
smoothing = importlib.import_module("gptqmodel.quantization.fallback_smooth")


def method_of(path, name):
    """One function of a module that is too entangled to load."""
    tree = ast.parse(open(path).read())
    found = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name)
    scope = {**vars(config), **vars(quantizer)}
    scope.update(torch=torch, time=time, transformers=transformers, mse_optimal_quant=smoothing.mse_optimal_quant, smooth_block=smoothing.smooth_block)
    found.args.args = [ast.arg(a.arg) for a in found.args.args]
    exec(compile(ast.fix_missing_locations(ast.Module([found], [])), path, "exec"), scope)
    return scope[name]


fallback_quantize = method_of(f"{root}/quantization/gptq.py", "_fallback_quantize")


class Lcg:
    def __init__(self, seed):
        self.s = seed

    def u(self):
        self.s = (1664525 * self.s + 1013904223) % 2**32
        return self.s / 2**32

    def bell(self):
        return self.u() + self.u() + self.u() + self.u() - 2


def weights(seed, rows, cols, coarse=False):
    """Bell-shaped and a little off centre, one in 50 five times as large. Coarse: multiples of 1/8, so that weights lie on ties."""
    g = Lcg(seed)
    w = torch.zeros(rows, cols, dtype=torch.float64)
    for r in range(rows):
        shift = 0.2 * g.bell()
        for c in range(cols):
            v = g.bell() + shift
            if g.u() < 0.02:
                v *= 5
            w[r, c] = round(8 * v) / 8 if coarse else v
    return w.float()


def digits(q):
    return "".join(format(int(v), "x") for v in q.flatten())


def numbers(x):
    return [float(f"{v:.9g}") for v in x.flatten().tolist()]


def make_quantizer(bits, sym, mse=0.0, trits=False):
    out = quantizer.Quantizer(SimpleNamespace(bits=bits, sym=sym, mse=mse, group_size=-1))
    out.configure(perchannel=True, trits=trits)
    return out


ROWS, COLS, SEED = 6, 256, 4711
SMOOTHERS = [
    None,
    config.SmoothPercentile(),
    config.SmoothPercentile(90.0),
    config.SmoothPercentileAsymmetric(),
    config.SmoothMAD(),
    config.SmoothMSE(),
    config.SmoothMSE(steps=8, maxshrink=0.5),
    config.SmoothOutlier(),
    config.SmoothOutlier(7.5),
    config.SmoothSoftNorm(),
    config.SmoothLog(),
    config.SmoothRowCol(),
    config.SmoothRowCol("col"),
]


def fallback_case(strategy, smooth, bits, sym, group):
    w = weights(SEED, ROWS, COLS)
    module = torch.nn.Linear(COLS, ROWS, bias=False)
    module.weight.data = w.clone()
    this = SimpleNamespace(
        qcfg=SimpleNamespace(bits=bits, sym=sym, mse=0.0, group_size=group),
        fallback=config.Fallback(strategy=strategy, smooth=smooth),
        columns=COLS, H=None, module=module, nsamples=0, _tp_pad_cols=0,
        clone_module=lambda device=None: w.clone(),
        quantizer=make_quantizer(bits, sym),
        _sanitize_scale_and_log=lambda scale, zero: (scale, zero),
    )
    q, scale, zero = fallback_quantize(this, config.FallbackStrategy(strategy), 128)[:3]
    size = COLS if group == -1 else group
    s, z = scale.repeat_interleave(size, 1), zero.repeat_interleave(size, 1)
    options = None
    if smooth:
        options = {"method": smooth.name, **{k: v for k, v in vars(smooth).items() if k not in ("name", "group_size_threshold")}}
        if "maxshrink" in options:
            options["maxShrink"] = options.pop("maxshrink")
    return dict(strategy=strategy, smooth=options, bits=bits, symmetric=sym, groupSize=group,
                scales=numbers(scale), zeros=numbers(zero), codes=digits(torch.round(q / s + z)))


def fallbacks():
    out = []
    for i, smooth in enumerate(SMOOTHERS):
        for j, strategy in enumerate(["rtn", "midpoint", "mean", "median", "stdclip"]):
            if smooth and (i + j) % 2:
                continue  # each smoother with half of the strategies
            out.append(fallback_case(strategy, smooth, [4, 3, 4][(i + j) % 3], (i + j) % 4 == 0, 128 if j % 2 else -1))
    out.append(fallback_case("midpoint", config.SmoothPercentile(), 4, False, 64))  # below the threshold: not smoothed
    return out


def searches():
    """The 2-bit search: range, zero point and the other zero point."""
    out = []
    for seed, norm in ((1, 2.4), (2, 2.0), (3, 3.0)):
        q = make_quantizer(2, False, norm)
        q.find_params(weights(seed, 40, 32), weight=True)
        out.append(dict(seed=seed, norm=norm, scales=numbers(q.scale), zeros=numbers(q.zero)))
    return out


def trits():
    out = []
    for seed, sym, coarse in ((5, False, False), (6, True, False), (7, False, True), (8, True, True)):
        w = weights(seed, 16, 32, coarse)
        q = make_quantizer(2, sym, trits=True)
        q.find_params(w, weight=True)
        v = q.quantize(w)
        code = torch.where(v > 0, 2, torch.where(v < 0, 1, 0))
        out.append(dict(seed=seed, symmetric=sym, coarse=coarse, positive=numbers(q.scale), negative=numbers(q.zero), codes=digits(code)))
    return out


def imatrix():
    base = f"{LLMCOMPRESSOR}/llmcompressor"
    stand_in("llmcompressor", base)
    stand_in("llmcompressor.observers", f"{base}/observers")
    stand_in("llmcompressor.modifiers", f"{base}/modifiers")
    stand_in("llmcompressor.modifiers.utils", f"{base}/modifiers/utils")
    stand_in("llmcompressor.modifiers.utils.hooks", HooksMixin=object)

    class Observer:
        register = classmethod(lambda cls, name: lambda c: c)

    stand_in("llmcompressor.observers.base", MinMaxTuple=tuple, Observer=Observer)
    observer = importlib.import_module("llmcompressor.observers.imatrix")
    helpers = importlib.import_module("llmcompressor.observers.helpers")
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils import calculate_qparams

    out = []
    for seed, bits, sym, group, patience, options in (
        (11, 4, True, None, 0, {}), (12, 4, False, 32, 0, {}), (13, 2, True, 32, 0, dict(norm=2.0)), (14, 3, False, None, 0, dict(maxshrink=0.5, grid=40)),
        (15, 4, True, None, 5, {}),
    ):
        rows = 1 if patience else 24  # patience counts for all blocks together: only one block can be compared
        w = weights(seed, rows, 128)
        g = Lcg(seed + 100)
        importance = torch.tensor([g.u() ** 4 * 100 for _ in range(128)], dtype=torch.float64).float()
        args = QuantizationArgs(num_bits=bits, symmetric=sym, type="int", strategy="group" if group else "channel", group_size=group)
        flat = helpers.flatten_for_calibration(w, "weight", args)
        imp = importance / (importance.mean() + torch.finfo(torch.float32).tiny)
        imp = helpers.flatten_for_calibration(imp.unsqueeze(0).expand(rows, -1), "weight", args)
        grid, norm, maxshrink = options.get("grid", 20), options.get("norm", 3.0), options.get("maxshrink", 0.95)
        low, high = observer._grid_search(flat, args, maxshrink, patience, grid, norm, importance_weights=imp)
        scale, zero = calculate_qparams(low, high, args)
        out.append(dict(seed=seed, rows=rows, bits=bits, symmetric=sym, groupSize=group or -1,
                        clip=dict(method="imatrix", norm=norm, grid=grid, maxShrink=maxshrink, patience=patience),
                        scales=numbers(scale), zeros=numbers(zero.float())))
    return out


if __name__ == "__main__":
    header = dict(rows=ROWS, cols=COLS, seed=SEED)
    print(json.dumps(dict(**header, fallbacks=fallbacks(), searches=searches(), trits=trits(), imatrix=imatrix()), separators=(",", ":")))
