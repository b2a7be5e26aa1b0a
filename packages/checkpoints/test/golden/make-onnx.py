"""Writes onnx.json: small models of the onnx package and of ONNX Runtime's quantizer, for the reader.

    python packages/checkpoints/test/golden/make-onnx.py

Needs: pip install numpy onnx onnx-ir onnxruntime (made with onnx 1.23.2, onnxruntime 1.32.0)
"""

import base64
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

rng = np.random.default_rng(11)
K, N = 64, 12


def model(weights, nodes, last, type=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", type, ["tokens", K])],
        [helper.make_tensor_value_info(last, type, None)],
        weights,
    )
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(m, {"made by": "make-onnx.py"})
    return m


def matmuls(dtype=np.float32):
    a = rng.normal(size=(K, N)).astype(dtype)
    b = rng.normal(size=(N, 3)).astype(dtype)
    nodes = [helper.make_node("MatMul", ["x", "layer.0.weight"], ["h"], name="a"), helper.make_node("MatMul", ["h", "layer.1.weight"], ["y"], name="b")]
    return model([numpy_helper.from_array(a, "layer.0.weight"), numpy_helper.from_array(b, "layer.1.weight")], nodes, "y", helper.np_dtype_to_tensor_dtype(a.dtype))


def dequantized(m):
    """W [N, K] of every MatMulNBits, by the runtime itself in float32: the identity matrix times each."""
    out = {}
    constants = {}
    for t in m.graph.initializer:
        half = t.data_type == TensorProto.FLOAT16
        constants[t.name] = numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float32), t.name) if half else t
    for node in m.graph.node:
        if node.op_type != "MatMulNBits":
            continue
        k = next(a.i for a in node.attribute if a.name == "K")
        one = helper.make_node("MatMulNBits", ["x", *node.input[1:]], ["y"], domain="com.microsoft")
        one.attribute.extend(a for a in node.attribute if a.name != "accuracy_level")
        graph = helper.make_graph(
            [one],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [k, k])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [constants[i] for i in node.input[1:] if i],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        single = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        y = onnxruntime.InferenceSession(single.SerializeToString()).run(None, {"x": np.eye(k, dtype=np.float32)})[0]
        out[node.input[1]] = y.T
    return out


cases = {}


def case(name, m, files=None):
    data = {k: v.astype(np.float32) for k, v in dequantized(m).items()}
    used = {i for node in m.graph.node if node.op_type == "MatMulNBits" for i in node.input}
    dense = {t.name: numpy_helper.to_array(t) for t in m.graph.initializer if t.name not in used}
    cases[name] = {
        "model": base64.b64encode(files.pop("model.onnx") if files else m.SerializeToString()).decode(),
        "files": {k: base64.b64encode(v).decode() for k, v in (files or {}).items()},
        "packed": {k: {"shape": list(v.shape), "data": base64.b64encode(np.ascontiguousarray(v).tobytes()).decode()} for k, v in data.items()},
        "dense": {k: {"shape": list(v.shape), "data": base64.b64encode(v.tobytes()).decode()} for k, v in dense.items()},
    }


def quantized(dtype=np.float32, **options):
    quantizer = MatMulNBitsQuantizer(matmuls(dtype), **options)
    quantizer.process()
    return quantizer.model.model


case("4 bits", quantized(block_size=32, is_symmetric=False))
case("4 bits, symmetric, accuracy level 4", quantized(block_size=16, is_symmetric=True, accuracy_level=4))
case("8 bits", quantized(block_size=32, is_symmetric=False, bits=8))
case("2 bits", quantized(block_size=32, is_symmetric=False, bits=2))
case("half precision", quantized(np.float16, block_size=32, is_symmetric=False))

stored = quantized(block_size=32, is_symmetric=False)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.onnx"
    onnx.save(onnx.ModelProto.FromString(stored.SerializeToString()), path, save_as_external_data=True, location="model.onnx_data", size_threshold=16)
    case("data beside", stored, {p.name: p.read_bytes() for p in Path(folder).iterdir()})

typed = helper.make_tensor("typed", TensorProto.FLOAT, [2, 3], [0.5, -1, 2, 3, 4, 5])  # float_data
case("typed data", model([typed], [helper.make_node("Identity", ["x"], ["y"])], "y"))

path = Path(__file__).with_name("onnx.json")
path.write_text(json.dumps({"note": f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, made by make-onnx.py", "cases": cases}, indent=1) + "\n")
