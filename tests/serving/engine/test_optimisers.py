"""Graphs whose optimisation by ONNX Runtime would end the process are opened without that part.

Each is opened in a process of its own, as its end would be that of all tests.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

OPENED = """
import sys
from pathlib import Path
import numpy as np
from serving.config import parse
from serving.engine.backends.ort import OrtBackend

session = OrtBackend(threads=1).open(parse("", "c"), Path(sys.argv[1]))
inputs = {spec.name: np.ones([2 if size < 0 else size for size in spec.dims], spec.datatype.numpy)
          for spec in session.signature.inputs}
print(session.run(inputs, ["y"])[0].tolist())
"""
IMPORTED = """
import sys
from pathlib import Path
from export.onnx_model import OnnxModel

for model in (Path(sys.argv[1], "model.onnx"), Path(sys.argv[1], "model.onnx").read_bytes()):
    OnnxModel(model)
"""


def write_attention(folder: Path, convolution: bool) -> None:
    """y = x as (1, 0, 2) in FP32, times ones; beside it an image, convolved or not."""
    weights = [
        numpy_helper.from_array(np.ones((4, 1), np.float32), "ones"),
        numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "kernel"),
    ]
    image = helper.make_node("Conv", ["image", "kernel"], ["z"])
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("Cast", ["turned"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["wide", "ones"], ["y"]),
        image if convolution else helper.make_node("Relu", ["image"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["batch", "time", 4]),
            helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["time", "batch", 1]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, None),
        ],
        weights if convolution else weights[:1],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")


@pytest.mark.parametrize("convolution", [False, True])
@pytest.mark.parametrize(("script", "told"), [(OPENED, "[[[4.0], [4.0]], [[4.0], [4.0]]]\n"),
                                              (IMPORTED, "")])  # fmt: skip
def test_attention_of_half_precision_ends_no_process(
    tmp_path: Path, script: str, told: str, convolution: bool
) -> None:
    write_attention(tmp_path, convolution)

    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (ended.returncode, ended.stdout) == (0, told), ended.stderr
