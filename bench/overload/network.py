"""The model that is overloaded: a residual network of some milliseconds for an image.

A request that is refused costs processor time as well, for its head and its body are read. No
server can keep its goodput for a model that costs as little as a refusal does.
"""

from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.models import Subject, publish

CHANNELS: Final = 32
CLASSES: Final = 10
SIDE: Final = 28
# Larger batches bring a processor nothing here, and are the least by which answers come late.
MOST: Final = 8


def residual(repository: Path, blocks: int) -> Subject:
    """Publish `mnist`, images (1, 28, 28) to probabilities.

    Twelve blocks are 174 million multiplications, a tenth of what a ResNet-18 takes for a
    photograph. The weights are random.
    """
    graph = _Graph()
    image = "image"
    values = graph.relu(graph.convolved(image, 1))
    for _ in range(blocks):
        inner = graph.relu(graph.convolved(values, CHANNELS))
        values = graph.relu(graph.node("Add", values, graph.convolved(inner, CHANNELS)))
    pooled = graph.node("Flatten", graph.node("GlobalAveragePool", values))
    logits = graph.node("MatMul", pooled, graph.weights(CHANNELS, CLASSES))
    graph.node("Softmax", logits, output="probabilities")
    model = graph.model(image, [1, SIDE, SIDE], "probabilities", [CLASSES])
    rows = np.random.default_rng(1).random((1, 1, SIDE, SIDE), np.float32)
    return publish(repository, "mnist", model, rows, MOST, f"preferred_batch_size: [{MOST}]")


class _Graph:
    """Grows node by node; every method gives the name of what it computes."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._numbers = np.random.default_rng(0)
        self._names = (f"t{number}" for number in count())

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or next(self._names)
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weights(self, *shape: int) -> str:
        name = next(self._names)
        spread = np.sqrt(2 / np.prod(shape[1:]))
        values = self._numbers.standard_normal(shape, np.float32) * np.float32(spread)
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def convolved(self, values: str, channels: int) -> str:
        weights = self.weights(CHANNELS, channels, 3, 3)
        return self.node("Conv", values, weights, pads=[1, 1, 1, 1], kernel_shape=[3, 3])

    def relu(self, values: str) -> str:
        return self.node("Relu", values)

    def model(self, input_: str, dims_in: list[int], output: str, dims_out: list[int]) -> Any:
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *dims])
            for name, dims in ((input_, dims_in), (output, dims_out))
        ]
        graph = helper.make_graph(self._nodes, "residual", ends[:1], ends[1:], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model
