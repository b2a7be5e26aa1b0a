"""Largest |x| of each channel of some OPT inputs, from the activation scales that mit-han-lab/smoothquant publishes.

Run: python opt_maxima.py FOLDER > opt-maxima.json      FOLDER holds opt-125m.act_scales.pt and opt-1.3b.act_scales.pt. Needs torch.

Of each model: the input with the largest ratio of its largest channel to the median one, among those that norms feed.
"""
import json
import sys

import torch

out = []
for model in ["opt-125m", "opt-1.3b"]:
    scales = torch.load(f"{sys.argv[1]}/{model}.act_scales.pt", map_location="cpu", weights_only=True)
    fed = {k: v.float() for k, v in scales.items() if k.endswith(("self_attn.q_proj", "fc1"))}
    name, v = max(fed.items(), key=lambda i: (i[1].max() / i[1].median()).item())
    out.append({"model": model, "input": name, "absMax": [float(f"{x:.4g}") for x in v.tolist()]})
print(json.dumps(out))
