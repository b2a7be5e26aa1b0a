"""Golden HQQ weights, by the package that defines the method, and what scikit-learn's k-means reaches. CPU, float32.

    pip install torch hqq==0.2.8.post1 scikit-learn==1.9.1
    python make_tables.py > tables.json
"""
import base64, json
import numpy as np
import torch
from hqq.core.quantize import Quantizer
from sklearn.cluster import KMeans

torch.manual_seed(11)
b64 = lambda a: base64.b64encode(np.ascontiguousarray(a).tobytes()).decode()

rows, cols = 12, 128
normal = torch.randn(rows, cols) * 0.05
# tails and magnitudes beyond the threshold below which the solver sees no outliers, a constant group, a group of tiny range, one far from zero
wild = torch.randn(rows, cols) * 0.6 * (1 + 4 * (torch.rand(rows, cols) < 0.02))
wild[1, :64] = 0.25
wild[2, 64:] = 1e-5 * torch.randn(64)
wild[3, :64] += 40
inputs = {"normal": normal, "wild": wild}


def hqq(name, bits, group):
    w = inputs[name]
    q, meta = Quantizer.quantize(w, nbits=bits, group_size=group, round_zero=bits == 4, axis=1, bitpack=False, device="cpu")
    return {"input": name, "bits": bits, "groupSize": group, "codes": b64(q.numpy().astype(np.uint8)),
            "scale": b64(meta["scale"].numpy().astype(np.float32)), "zero": b64(meta["zero"].numpy().astype(np.float32))}


def kmeans(k, seed):
    g = np.random.default_rng(seed)
    x = (g.standard_t(4, 300) * 0.05).astype(np.float32)
    weights = (g.standard_normal(300) ** 2 * (g.random(300) > 0.1)).astype(np.float32)
    fit = KMeans(n_clusters=k, random_state=0, n_init="auto", max_iter=50).fit(x.reshape(-1, 1).astype(np.float64), sample_weight=weights.astype(np.float64))
    return {"k": k, "values": b64(x), "weights": b64(weights), "inertia": float(fit.inertia_)}


print(json.dumps({
    "rows": rows, "cols": cols,
    "inputs": {k: b64(v.numpy()) for k, v in inputs.items()},
    "hqq": [hqq(name, bits, group) for name in inputs for bits, group in ((8, 64), (4, 64), (4, 32), (3, 64), (2, 32), (1, 128))],
    "kmeans": [kmeans(k, seed) for seed, k in enumerate((2, 4, 8, 16, 16, 64))],
}))
