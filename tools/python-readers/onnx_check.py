"""Asks the onnx package whether models are well formed, with their external data, and onnxruntime whether it can run them.

    python tools/python-readers/onnx_check.py <folder>/onnx/model_q4.onnx ...

Needs: pip install onnx onnxruntime
"""

import sys

import numpy as np
import onnx
import onnxruntime

for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tokens = 3
    sizes = {"batch_size": 1, "sequence_length": tokens, "total_sequence_length": tokens, "past_sequence_length": 0}
    feeds = {}
    for i in session.get_inputs():
        shape = [sizes[d] if isinstance(d, str) else d for d in i.shape]
        feeds[i.name] = np.zeros(shape, np.float32) if i.type == "tensor(float)" else np.ones(shape, np.int64)
    feeds["position_ids"] = np.arange(tokens, dtype=np.int64)[None]
    logits = session.run(["logits"], feeds)[0]
    assert np.isfinite(logits).all(), "logits are not finite"
    print(f"{path}: {len(onnx.load(path, load_external_data=False).graph.node)} nodes, logits {logits.shape}, std {logits.std():.3f}")
