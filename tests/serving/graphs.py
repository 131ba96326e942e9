"""ONNX models of any signature, small enough to be made anew for each test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.dtypes import Datatype

OPSET: Final = 17
IR_VERSION: Final = 9

# A tensor's datatype and dims; a dim is a size, a name, or None: any size, of no name.
Dims = Sequence[int | str | None]
Tensors = Mapping[str, tuple[Datatype, Dims]]

_ELEMENTS: Final = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.UINT8: TensorProto.UINT8,
    Datatype.UINT16: TensorProto.UINT16,
    Datatype.UINT32: TensorProto.UINT32,
    Datatype.UINT64: TensorProto.UINT64,
    Datatype.INT8: TensorProto.INT8,
    Datatype.INT16: TensorProto.INT16,
    Datatype.INT32: TensorProto.INT32,
    Datatype.INT64: TensorProto.INT64,
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BF16: TensorProto.BFLOAT16,
    Datatype.BYTES: TensorProto.STRING,
}


def model(inputs: Tensors, outputs: Tensors, defaults: Sequence[str] = ()) -> Any:
    """A model that gives zeros, in as many rows as its first input has.

    An output's first dimension is that input's if it is not a fixed one; any other of no fixed
    size is 1. `defaults` names the inputs that have one, so that clients may leave them out.
    """
    rows = [
        helper.make_node("Shape", [next(iter(inputs))], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
    ]
    constants = [_constant("zero", [0]), _constant("one", [1])]
    nodes = []
    for name, (datatype, dims) in outputs.items():
        sizes = [dim if isinstance(dim, int) else 1 for dim in dims]
        follows = bool(dims) and not isinstance(dims[0], int)
        constants.append(_constant(f"{name} sizes", sizes[1:] if follows else sizes))
        parts = ["rows"] * follows + [f"{name} sizes"]
        nodes += [
            helper.make_node("Concat", parts, [f"{name} shape"], axis=0),
            helper.make_node("ConstantOfShape", [f"{name} shape"], [f"{name} zeros"]),
            helper.make_node("Cast", [f"{name} zeros"], [name], to=_ELEMENTS[datatype]),
        ]
    for name in defaults:
        datatype, dims = inputs[name]
        zeros = np.zeros([dim if isinstance(dim, int) else 1 for dim in dims], datatype.numpy)
        constants.append(numpy_helper.from_array(zeros, name))
    needs_rows = any("rows" in node.input for node in nodes)
    graph = helper.make_graph(
        rows + nodes if needs_rows else nodes, "g", _values(inputs), _values(outputs), constants
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


def same(datatype: Datatype) -> Any:
    """A model whose `y` is its `x`, rows of two elements."""
    x, y = _values({"x": (datatype, ["n", 2])}), _values({"y": (datatype, ["n", 2])})
    return of(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", x, y))


def of(graph: Any) -> Any:
    """A model of `graph`."""
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


def write(made: Any, path: Path) -> Path:
    """Put a model into the file `path`; gives the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, path)
    return path


def keep_weights_in(made: Any, location: str, length: int) -> Any:
    """The same model with one more initializer, whose `length` floats lie in another file."""
    weights = made.graph.initializer.add(
        name="weights",
        data_type=TensorProto.FLOAT,
        dims=[length],
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", location), ("offset", "0"), ("length", str(4 * length))):
        weights.external_data.add(key=key, value=value)
    output = helper.make_tensor_value_info("weighed", TensorProto.FLOAT, [length])
    made.graph.output.append(output)
    made.graph.node.append(helper.make_node("Neg", ["weights"], ["weighed"]))
    return made


def _values(tensors: Tensors) -> list[Any]:
    return [
        helper.make_tensor_value_info(name, _ELEMENTS[datatype], list(dims))
        for name, (datatype, dims) in tensors.items()
    ]


def _constant(name: str, values: Sequence[int]) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)
