"""Writes matmul-nbits.json: weights that ONNX Runtime's own quantizer packed for MatMulNBits, and what its operator makes of them.

    python packages/formats/test/golden/matmul-nbits.py

Needs: pip install numpy onnx onnxruntime (made with 1.32.0)
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits


def multiply(x, packed, scales, zeros, bits, block, k, n):
    constants = {"b": packed, "scales": scales, **({"zeros": zeros} if zeros is not None else {})}
    node = helper.make_node("MatMulNBits", ["x", *constants], ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=block)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, n])],
        [numpy_helper.from_array(c, name) for name, c in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


cases = []
rng = np.random.default_rng(7)
for bits, quantize in ((4, quantize_matmul_4bits), (8, quantize_matmul_8bits)):
    for n, k, block in ((3, 64, 32), (5, 40, 16), (2, 48, 16), (2, 100, 64)):
        for symmetric in (True, False):
            w = (rng.normal(size=(n, k)) + 0.3).astype(np.float32)
            blocks = -(-k // block)
            padded = np.pad(w, ((0, 0), (0, blocks * block - k)))
            packed = np.zeros((n, blocks, block * bits // 8), np.uint8)
            scales = np.zeros((n, blocks), np.float32)
            zeros = np.zeros((n, -(-blocks * bits // 8)), np.uint8)
            quantize(packed, np.ascontiguousarray(padded.T), scales, zeros, block, n, k, symmetric)
            if bits == 4 and blocks % 2:
                zeros[:, -1] &= 15  # the quantizer leaves an 8 in the unused half
            used = None if symmetric else zeros
            decoded = multiply(np.eye(k, dtype=np.float32), packed, scales, used, bits, block, k, n).T
            assert np.abs(decoded - w).max() < np.abs(scales).max() * 1.01
            cases.append(
                {
                    "bits": bits,
                    "shape": [n, k],
                    "blockSize": block,
                    "codes": packed.tobytes().hex(),
                    "scales": scales.tobytes().hex(),
                    **({} if symmetric else {"zeroPoints": zeros.tobytes().hex()}),
                    "decoded": np.ascontiguousarray(decoded).tobytes().hex(),
                }
            )
path = Path(__file__).with_name("matmul-nbits.json")
path.write_text(json.dumps({"note": f"onnxruntime {onnxruntime.__version__}, made by matmul-nbits.py", "cases": cases}, indent=1) + "\n")
