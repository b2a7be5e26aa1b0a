"""Golden vectors of LLM.int8(): bitsandbytes' own operators (CPU), run on float32 inputs with planted outliers.

    python llm_int8.py > llm-int8.json        (torch, bitsandbytes)

bitsandbytes rescales with 6.200124e-05 for 1 / 127**2, which is 1.8e-5 of the integer part too much; the exact result is stored beside it.
"""
import json

import bitsandbytes as bnb
import torch

ops = torch.ops.bitsandbytes
g = torch.Generator().manual_seed(5)
out, width = 8, 64
w = torch.randn(out, width, generator=g)
cb, scb, _ = ops.int8_vectorwise_quant(w.clone(), 0.0)
bias = torch.randn(out, generator=g)
cases = []
for tokens, threshold in [(1, 6.0), (5, 6.0), (5, 3.0), (5, 0.0), (3, 1e-6)]:
    a = torch.randn(tokens, width, generator=g)
    a[0, 3] = 9.5
    a[tokens - 1, 40] = -6.0  # the threshold itself is an outlier
    a[tokens // 2, 41] = 5.99
    ca, sca, columns = ops.int8_vectorwise_quant(a.clone(), threshold)
    columns = torch.empty(0, dtype=torch.int64) if columns is None else columns
    y, _ = ops.int8_mixed_scaled_mm(a.clone(), ca, cb, sca, scb, columns, bias)
    exact = (ca.double() @ cb.double().t()) * sca.double()[:, None] * scb.double() / 127**2 + bias.double()
    exact += a[:, columns].double() @ (cb[:, columns].double() * scb.double()[:, None] / 127).t()
    cases.append(dict(tokens=tokens, threshold=threshold, x=a.flatten().tolist(), columns=columns.tolist(), y=y.flatten().tolist(), exact=exact.flatten().tolist()))
print(json.dumps(dict(source=f"bitsandbytes {bnb.__version__}", shape=[out, width], codes=cb.flatten().tolist(), absmax=scb.tolist(), bias=bias.tolist(), cases=cases)))
