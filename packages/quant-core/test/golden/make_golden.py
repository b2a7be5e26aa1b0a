"""Golden figures of the quantization core, restated in numpy from the published rules.

Run: python make_golden.py > golden.json      (needs numpy; tests need only golden.json)

presets: mean |error| and relative RMS error of every scale convention, groups of 64 of 2048 x 1024 samples, on the convention's own signed or
unsigned grid with its own rounding, scales not rounded. `shifted` is 3 + N(0, 1): groups with few or no negative values.
kl: bins kept by entropy calibration, with P and Q written out, for histograms from a linear congruential generator.
"""
import json
import numpy as np


def away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


def signed(x, s, b):
    return s * np.clip(np.rint(x / s), -2 ** (b - 1), 2 ** (b - 1) - 1)


def unsigned(x, s, z, b):
    return s * (np.clip(np.rint(x / s) + z, 0, 2**b - 1) - z)


def ends(x):
    return x.min(-1, keepdims=True), x.max(-1, keepdims=True)


def with_zero(x):
    lo, hi = ends(x)
    return np.minimum(lo, 0), np.maximum(hi, 0)


def gptq_sym(x, b):
    lo, hi = with_zero(x)
    return unsigned(x, 2 * np.maximum(-lo, hi) / (2**b - 1), 2 ** (b - 1), b)


def gptq_asym(x, b):
    lo, hi = with_zero(x)
    s = (hi - lo) / (2**b - 1)
    return unsigned(x, s, np.rint(-lo / s), b)


def awq_sym(x, b):
    return signed(x, np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5) / (2 ** (b - 1) - 1), b)


def awq_asym(x, b):
    lo, hi = ends(x)
    s = np.maximum(hi - lo, 1e-5) / (2**b - 1)
    return unsigned(x, s, np.clip(-np.rint(lo / s), 0, 2**b - 1), b)


def smoothquant_sym(x, b):
    s = np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5) / (2 ** (b - 1) - 1)
    return s * np.rint(x / s)


def ct_sym(x, b):
    return signed(x, 2 * np.abs(x).max(-1, keepdims=True) / (2**b - 1), b)


def ct_asym(x, b):
    lo, hi = with_zero(x)
    low, high = -(2 ** (b - 1)), 2 ** (b - 1) - 1
    s = (hi - lo) / (2**b - 1)
    z = np.rint(np.clip(low - lo / s, low, high))
    return s * (np.rint(np.clip(x / s + z, low, high)) - z)


def ao_asym(x, b):
    lo, hi = with_zero(x)
    low, high = -(2 ** (b - 1)), 2 ** (b - 1) - 1
    s = (hi - lo) / (2**b - 1)
    z = np.clip(low - np.rint(lo / s), low, high)
    return s * (np.clip(np.rint(x / s) + z, low, high) - z)


def ao_no_clipping(x, b):
    lo, hi = with_zero(x)
    return signed(x, np.maximum(-lo / 2 ** (b - 1), hi / (2 ** (b - 1) - 1)), b)


def largest(x):
    return np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)


def full_range(x, b):
    return signed(x, -largest(x) / 2 ** (b - 1), b)


def gguf_sym(x, b):
    if b == 8:
        d = np.abs(x).max(-1, keepdims=True) / 127
        return d * away(x / d)
    d = -largest(x) / 2 ** (b - 1)
    return d * (np.minimum(np.trunc(x / d + 2 ** (b - 1) + 0.5), 2**b - 1) - 2 ** (b - 1))


def ort_sym(x, b):
    s = -largest(x) / 2 ** (b - 1)
    return s * np.clip(away(x / s), -(2 ** (b - 1)), 2 ** (b - 1) - 1)


def ort_asym(x, b):
    lo, hi = with_zero(x)
    s = (hi - lo) / (2**b - 1)
    z = np.clip(away(-lo / s), 0, 2**b - 1)
    return s * (np.clip(away(x / s) + z, 0, 2**b - 1) - z)


RULES = {
    ("gptq", True): gptq_sym, ("gptq", False): gptq_asym,
    ("awq", True): awq_sym, ("awq", False): awq_asym,
    ("smoothquant", True): smoothquant_sym,
    ("compressed-tensors", True): ct_sym, ("compressed-tensors", False): ct_asym,
    ("torchao", True): ct_sym, ("torchao", False): ao_asym,
    ("torchao-no-clipping", True): ao_no_clipping,
    ("auto-round", True): full_range, ("auto-round", False): gptq_asym,
    ("gguf", True): gguf_sym,
    ("onnxruntime", True): ort_sym, ("onnxruntime", False): ort_asym,
}


def presets():
    rng = np.random.default_rng(7)
    normal = rng.standard_normal((2048, 16, 64))
    out = []
    for data, x in (("normal", normal), ("shifted", 3 + normal)):
        for bits in (4, 8):
            for (preset, symmetric), rule in RULES.items():
                e = rule(x, bits) - x
                out.append(dict(
                    preset=preset, symmetric=symmetric, bits=bits, data=data,
                    mean=float(f"{np.abs(e).mean():.5g}"),
                    rms=float(f"{np.sqrt((e * e).sum() / (x * x).sum()):.5g}"),
                ))
    return out


def kl_keep(counts, levels):
    counts = np.asarray(counts, float)
    n = len(counts)
    if n <= levels or counts.sum() == 0:
        return n
    best, keep = np.inf, n
    for i in range(levels, n + 1):
        p = counts[:i].copy()
        p[-1] += counts[i:].sum()
        level = np.arange(i) * levels // i
        q = np.zeros(i)
        for l in range(levels):
            here = level == l
            live = here & (p > 0)
            if live.any():
                mass = counts[:i][here].sum()
                q[live] = mass / live.sum() if mass > 0 else 1e-4 / live.sum()
        live = p > 0
        p, q = p[live] / p.sum(), q[live] / q.sum()
        d = float((p * np.log(p / q)).sum())
        if d < best - 1e-12:
            best, keep = d, i
    return keep if keep == n else keep + 0.5


def lcg(seed):
    while True:
        seed = (1664525 * seed + 1013904223) % 2**32
        yield seed / 2**32


def histogram(seed, bins, values, heavy):
    """Magnitudes of sums of uniforms, one in eight of them `heavy` times as large; bins up to the largest."""
    g = lcg(seed)
    x = [abs(next(g) + next(g) + next(g) - 1.5) * (heavy if i % 8 == 0 else 1) for i in range(values)]
    top = max(x)
    counts = [0] * bins
    for v in x:
        counts[min(int(v / top * bins), bins - 1)] += 1
    return counts


KL = [(1, 128, 4000, 1, 8), (2, 128, 4000, 4, 8), (3, 256, 500, 10, 16), (4, 512, 20000, 6, 128), (5, 100, 60, 3, 7), (6, 64, 3000, 20, 2)]

if __name__ == "__main__":
    kl = [dict(seed=s, bins=b, values=v, heavy=h, levels=l, keep=kl_keep(histogram(s, b, v, h), l)) for s, b, v, h, l in KL]
    print(json.dumps(dict(presets=presets(), kl=kl), separators=(",", ":")))
