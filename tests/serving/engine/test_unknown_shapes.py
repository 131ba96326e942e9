"""Outputs of which the graph does not say how many dimensions they have, on ONNX Runtime itself."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from serving.config import Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.engine.backends.ort import OrtBackend
from serving.engine.model import ModelVersion
from serving.engine.scheduling import schedule
from serving.engine.servable import Opened
from serving.types import InferenceRequest, Tensor

BATCHING = """
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: 4 }
input { name: "shape" data_type: TYPE_INT64 dims: -1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
dynamic_batching { }
"""


def version_of(folder: Path, text: str, rows: bool) -> ModelVersion:
    """y is x in the shape that is asked for; with `rows` each row asks, and the largest counts."""
    batch = ["rows"] if rows else []
    nodes = [
        helper.make_node("ReduceMax", ["shape"], ["wanted"], axes=[0], keepdims=0)
        if rows
        else helper.make_node("Identity", ["shape"], ["wanted"]),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [*batch, 4]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [*batch, "dimensions"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    source = Source("m", text)
    resolved = resolve(parse(text, "m"), "m", source, files=["model.onnx"])
    session = OrtBackend(threads=1).open(resolved, folder)
    opened = Opened(complete(resolved, session.signature, source), "1", [session])
    return ModelVersion(opened, schedule(opened, 16))


def request(x: Any, shape: Any) -> InferenceRequest:
    return InferenceRequest(
        "m",
        (
            Tensor("x", Datatype.FP32, np.array(x, np.float32)),
            Tensor("shape", Datatype.INT64, np.array(shape, np.int64)),
        ),
    )


@pytest.mark.parametrize("shape", [[2, 2], [4], [1, 4, 1]])
async def test_an_output_of_any_shape_goes_as_it_is(tmp_path: Path, shape: list[int]) -> None:
    version = version_of(tmp_path, "", rows=False)
    response = await version.infer(request([1, 2, 3, 4], shape))
    assert response.outputs[0].array.shape == tuple(shape)
    await version.close()


async def test_in_a_batch_each_request_has_its_rows_of_any_shape(tmp_path: Path) -> None:
    version = version_of(tmp_path, BATCHING, rows=True)
    response = await version.infer(request([[1, 2, 3, 4], [5, 6, 7, 8]], [[0, 2, 2]] * 2))
    assert response.outputs[0].array.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    await version.close()
