"""Small ONNX models as others write them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims: TypeAlias = Sequence[int | str]
WEIGHTS = np.arange(1, 7, dtype=np.float32).reshape(3, 2)


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **more: Any) -> Any:
    return helper.make_node(operator, inputs, outputs, **more)


def model(
    nodes: Sequence[Any],
    *,
    x: Dims | None = ("N", 3),
    y: Dims | None = ("N", 2),
    kind: int = TensorProto.FLOAT,
    initializers: Sequence[Any] = (),
    opsets: Sequence[tuple[str, int]] = (("", 18),),
    ir: int = 10,
) -> onnx.ModelProto:
    """Of one input x and one float output y; None is a shape that is not stated."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        initializers,
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir)


def linear(**more: Any) -> onnx.ModelProto:
    """y = x @ WEIGHTS, whose rows have nothing to do with each other."""
    weights = [numpy_helper.from_array(WEIGHTS, "weights")]
    nodes = [node("MatMul", ["x", "weights"], ["y"], name="multiply")]
    return model(nodes, initializers=weights, **more)


def single(operator: str, **more: Any) -> onnx.ModelProto:
    """y = operator(x), of the same shape."""
    attributes = more.pop("attributes", {})
    nodes = [node(operator, ["x"], ["y"], name="only", **attributes)]
    return model(nodes, **{"y": ("N", 3)} | more)


def written(folder: Path, made: onnx.ModelProto, name: str = "made.onnx") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path


def external(folder: Path, location: str, edit: Callable[[Path], object] = lambda _: None) -> Path:
    """`linear` with its weights in a file, of which the model says that it is at `location`."""
    made = linear()
    tensor = made.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value=str(len(data)))
    path = written(folder, made)
    target = folder / "weights.bin"
    target.write_bytes(data)
    edit(target)
    return path
