"""The repository that both servers serve: small ONNX models, one for each thing to compare."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.server import REPOSITORY

# One ONNX element type for each datatype that Triton's Python backend can hold.
TYPES: Final = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
LABELS: Final = ("cat", "dog", "emu", "fox")
# The rows and columns of the matrix that `slow` multiplies by itself.
SIDE: Final = 256

Dims = Sequence[int | str]


def build(repository: Path) -> None:
    """Write every model into `repository`, and copy a committed one beside them."""
    for name, add in MODELS.items():
        add(repository / name)
    for datatype in TYPES:
        identity(repository / f"identity_{datatype.lower()}", datatype, ["a", "b"])
    shutil.copytree(REPOSITORY / "mnist-cnn", repository / "mnist-cnn")


def identity(
    folder: Path,
    datatype: str = "FP32",
    dims: Dims = ("a",),
    max_batch_size: int = 0,
    tensor: str = "",
    more: str = "",
    output: str = "",
    versions: Sequence[str] = ("1",),
) -> None:
    """A model that returns its input IN as OUT.

    `dims` are the graph's without the batch; `tensor` replaces what follows from them in the
    configuration of either tensor, `output` is for OUT's alone, `more` for the whole.
    """
    shape = ["rows", *dims] if max_batch_size else dims
    graph = _graph(
        [helper.make_node("Identity", ["IN"], ["OUT"])],
        [_value("IN", datatype, shape)],
        [_value("OUT", datatype, shape)],
    )
    written = tensor or f"dims: {_dims(dims)}"
    kind = f"data_type: TYPE_{'STRING' if datatype == 'BYTES' else datatype}"
    config = (
        f'input {{ name: "IN" {kind} {written} }}\n'
        f'output {{ name: "OUT" {kind} {written} {output} }}\n{more}'
    )
    for version in versions:
        _write(folder, graph, config, max_batch_size, version)


def add_sub(folder: Path, datatype: str = "INT32", size: int = 16, batch: int = 8) -> None:
    """OUTPUT0 is INPUT0 + INPUT1, OUTPUT1 is INPUT0 - INPUT1: Triton's own example."""
    shape: Dims = ["rows", size] if batch else [size]
    names = ("INPUT0", "INPUT1"), ("OUTPUT0", "OUTPUT1")
    inputs, outputs = ([_value(name, datatype, shape) for name in kind] for kind in names)
    nodes = [
        helper.make_node(operator, ["INPUT0", "INPUT1"], [output])
        for operator, output in zip(("Add", "Sub"), names[1], strict=True)
    ]
    config = "\n".join(
        f'{kind} {{ name: "{name}" data_type: TYPE_{datatype} dims: [{size}] }}'
        for kind, tensors in zip(("input", "output"), names, strict=True)
        for name in tensors
    )
    _write(folder, _graph(nodes, inputs, outputs), config, batch)


def optional(folder: Path) -> None:
    """OUT is IN times SCALE, which is 2 where a client does not send it."""
    scale = numpy_helper.from_array(np.array([2.0], np.float32), "SCALE")
    graph = _graph(
        [helper.make_node("Mul", ["IN", "SCALE"], ["OUT"])],
        [_value("IN", "FP32", ["n"]), _value("SCALE", "FP32", [1])],
        [_value("OUT", "FP32", ["n"])],
        [scale],
    )
    config = """input { name: "IN" data_type: TYPE_FP32 dims: [-1] }
input { name: "SCALE" data_type: TYPE_FP32 dims: [1] optional: true }
output { name: "OUT" data_type: TYPE_FP32 dims: [-1] }"""
    _write(folder, graph, config)


def failing(folder: Path) -> None:
    """OUT is element IN of a list of two: every other index fails in the runtime."""
    table = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "table")
    graph = _graph(
        [helper.make_node("Gather", ["table", "IN"], ["OUT"])],
        [_value("IN", "INT64", [1])],
        [_value("OUT", "FP32", [1])],
        [table],
    )
    config = """input { name: "IN" data_type: TYPE_INT64 dims: [1] }
output { name: "OUT" data_type: TYPE_FP32 dims: [1] }"""
    _write(folder, graph, config)


def slow(folder: Path) -> None:
    """OUT is IN, after as many multiplications of matrices as the first element of IN says.

    A queue of two, in which requests may wait for as long as they say, if that is not long.
    """
    matrix: Dims = [SIDE, SIDE]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("MatMul", ["held", "matrix"], ["product"]),
        ],
        "body",
        [_value("i", "INT64", []), _value("go", "BOOL", []), _value("held", "FP32", matrix)],
        [_value("go_on", "BOOL", []), _value("product", "FP32", matrix)],
    )
    nodes = [
        helper.make_node("Slice", ["IN", "zero", "one"], ["first"]),
        helper.make_node("Squeeze", ["first"], ["count"]),
        helper.make_node("Loop", ["count", "", "matrix"], ["last"], body=body),
        # All of it times nothing: the answer waits for the loop and does not depend on it.
        helper.make_node("ReduceMax", ["last"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
        helper.make_node("Add", ["IN", "nothing"], ["OUT"]),
    ]
    constants = [
        numpy_helper.from_array(np.eye(SIDE, dtype=np.float32), "matrix"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    shape: Dims = ["rows", 1]
    graph = _graph(
        nodes, [_value("IN", "INT64", shape)], [_value("OUT", "INT64", shape)], constants
    )
    config = """input { name: "IN" data_type: TYPE_INT64 dims: [1] }
output { name: "OUT" data_type: TYPE_INT64 dims: [1] }
dynamic_batching {
  default_queue_policy {
    max_queue_size: 2 default_timeout_microseconds: 60000000 allow_timeout_override: true
  }
}"""
    _write(folder, graph, config, 1)


def broken(folder: Path) -> None:
    """A model whose file is none."""
    identity(folder)
    (folder / "1" / "model.onnx").write_bytes(b"not a model")


def labelled(folder: Path) -> None:
    """A batching identity whose output has labels."""
    identity(folder, dims=[4], max_batch_size=4, output='label_filename: "labels.txt"')
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")


MODELS: Final[dict[str, Callable[[Path], None]]] = {
    "simple": add_sub,
    "simple_fp32": lambda folder: add_sub(folder, "FP32", size=4),
    "simple_alone": lambda folder: add_sub(folder, "INT32", size=4, batch=0),
    "variable": lambda folder: identity(folder, max_batch_size=8, more="dynamic_batching { }"),
    # A row is a scalar in the graph and one element to the clients.
    "scalar_rows": lambda folder: identity(
        folder, "FP32", (), 8, tensor="dims: [1] reshape { shape: [ ] }"
    ),
    "text_rows": lambda folder: identity(folder, "BYTES", [1], 8),
    "labelled": labelled,
    "all_versions": lambda folder: identity(
        folder, more="version_policy { all { } }", versions=["1", "2"]
    ),
    "latest_versions": lambda folder: identity(
        folder, more="version_policy { latest { num_versions: 2 } }", versions=["1", "2", "10"]
    ),
    "chosen_versions": lambda folder: identity(
        folder, more="version_policy { specific { versions: [1, 3] } }", versions=["1", "2", "3"]
    ),
    "optional": optional,
    "failing": failing,
    "slow": slow,
    "broken": broken,
}


def _value(name: str, datatype: str, shape: Dims) -> Any:
    return helper.make_tensor_value_info(name, TYPES[datatype], shape)


def _graph(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Sequence[Any] = (),
) -> Any:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    # What the older runtime beside the real Triton can read.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _dims(dims: Dims) -> str:
    return str([dim if isinstance(dim, int) else -1 for dim in dims])


def _write(
    folder: Path, graph: Any, config: str, max_batch_size: int = 0, version: str = "1"
) -> None:
    (folder / version).mkdir(parents=True)
    onnx.save(graph, folder / version / "model.onnx")
    (folder / "config.pbtxt").write_text(
        f'backend: "onnxruntime"\nmax_batch_size: {max_batch_size}\n{config}\n'
        "instance_group { count: 1 kind: KIND_CPU }\n"
    )
