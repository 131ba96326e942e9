"""A graph in half precision, by ONNX Runtime's own tools; inputs and outputs stay as they are.

Which operator computes in which precision follows torch's autocast: layers, which hold the weights
and take the time, in half; norms, sums, powers and Softmax, which lose digits or overflow, in
single; any other in the wider one of its inputs. So preprocessing stays in single precision, and
what comes behind the last layer does as well, such as scores.

Half precision ends at 65,504. A constant beyond it, such as the number that masks with, keeps its
operator in single precision; a layer's weight beyond it, or a value on the way, is refused.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers import float16

from export.errors import VariantRefused
from export.onnx_model import Feed, OnnxModel

LARGEST: Final = 65504.0
_LAYERS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})
# What autocast keeps in single precision, and what the tools do by themselves. Normalising a batch
# is no reduction in a trained network, but a scale and a shift.
_SINGLE: Final = frozenset(float16.DEFAULT_OP_BLOCK_LIST) | {
    *("Softmax", "LogSoftmax", "Softplus", "Exp", "Log", "Pow", "Reciprocal", "Sqrt"),
    *("Sin", "Cos", "Tan", "Asin", "Acos", "Sinh", "Cosh"),
    *("ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"),
    *("ReduceLogSum", "ReduceLogSumExp", "GlobalAveragePool"),
    *("LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization"),
    *("LpNormalization", "MeanVarianceNormalization"),
}


@dataclass(frozen=True, slots=True)
class Half:
    """A graph in half precision, and the tensors of the fp32 graph that are half in there."""

    graph: bytes
    tensors: tuple[str, ...]


def convert(graph: bytes) -> Half:
    """VariantRefused where no layer is there or a layer's weight is out of range, and where the
    tools fail or what they make is not valid ONNX."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    ours = frozenset(node.name for node in model.graph.node)
    single, tensors = _plan(model.graph)
    try:
        made = float16.convert_float_to_float16(
            model, keep_io_types=True, op_block_list=[], node_block_list=single
        )
        _tidy(made.graph, ours)
        ONNXModel(made).topological_sort()
        onnx.checker.check_model(made, full_check=True)
    except Exception as error:  # the tools' errors have no common base
        raise VariantRefused(f"ONNX Runtime's tools cannot make it half: {error}") from error
    return Half(bytes(made.SerializeToString(deterministic=True)), tensors)


def check_range(graph: bytes, tensors: Sequence[str], feeds: Iterable[Feed]) -> None:
    """Raises VariantRefused where one of these tensors of the fp32 graph leaves the range.

    A processor computes half precision in single, and would not tell."""
    model = onnx.load_from_string(graph)
    there = {info.name for info in (*model.graph.input, *model.graph.output)}
    more = (onnx.ValueInfoProto(name=name) for name in tensors if name not in there)
    model.graph.output.extend(more)
    observed = OnnxModel(bytes(model.SerializeToString()))
    for feed in feeds:
        values = {**feed, **observed(feed)}
        for name in tensors:
            if (reached := _largest(values[name])) > LARGEST:
                raise VariantRefused(
                    f"{name} reaches {reached:.4g} on test samples, beyond what half precision "
                    f"holds ({LARGEST:g})"
                )


def _plan(graph: onnx.GraphProto) -> tuple[list[str], tuple[str, ...]]:
    """The names of the nodes that stay in single precision, and the tensors that become half."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    floats = {*_floats(graph), *(name for name in constants if _is_float(constants[name]))}
    layers = [place for place, node in enumerate(graph.node) if _is_layer(node, constants)]
    if not layers:
        raise VariantRefused("it has no layer that could compute in half precision")
    single: list[str] = []
    half: dict[str, None] = {}  # in order
    entering: dict[str, None] = {}
    for place, node in enumerate(graph.node):  # sorted, so that inputs come before
        given = [name for name in node.input if name in floats]
        moving = [name for name in given if name not in constants]
        if _is_layer(node, constants):
            _check_weights(node, constants)
        elif (
            place > layers[-1]
            or not half.keys() >= set(moving)
            or _needs_single(node, [constants[name] for name in given if name in constants])
            or not given
        ):
            single.append(node.name)
            continue
        entering |= dict.fromkeys(moving)
        half |= dict.fromkeys(name for name in node.output if name in floats)
    return single, tuple(entering | half)


def _needs_single(node: NodeProto, constants: Iterable[TensorProto]) -> bool:
    return node.op_type in _SINGLE or any(_reach(tensor) > LARGEST for tensor in constants)


def _floats(graph: onnx.GraphProto) -> Iterator[str]:
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            yield info.name


def _is_float(tensor: TensorProto) -> bool:
    return bool(tensor.data_type == TensorProto.FLOAT)


def _is_layer(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    """An embedding is one: it is a table of weights."""
    if node.op_type == "Gather":
        return node.input[0] in constants and _is_float(constants[node.input[0]])
    return node.op_type in _LAYERS


def _check_weights(node: NodeProto, constants: Mapping[str, TensorProto]) -> None:
    for name in node.input:
        if name in constants and (reached := _reach(constants[name])) > LARGEST:
            raise VariantRefused(
                f"the weights {name} reach {reached:.4g}, beyond what half precision holds "
                f"({LARGEST:g})"
            )


def _reach(tensor: TensorProto) -> float:
    return _largest(numpy_helper.to_array(tensor)) if _is_float(tensor) else 0.0


def _largest(array: np.ndarray) -> float:
    """Infinity is one in half precision as well, and NaN is for the other gates."""
    return float(np.abs(array, where=np.isfinite(array), out=np.zeros_like(array)).max(initial=0))


def _tidy(graph: onnx.GraphProto, ours: frozenset[str]) -> None:
    """Takes out what the tools put in too much; `ours` are the names of the nodes before.

    Between two neighbours in single precision they cast to half and back, which loses the digits
    that the two are there for; and they repeat a cast for each that reads it, which is no ONNX."""
    nodes = {node.output[0]: node for node in graph.node}
    outputs = {output.name for output in graph.output}
    same: dict[str, str] = {}  # by name, what the tensor is otherwise called
    for name, back in [*nodes.items()]:
        there = nodes.get(back.input[0]) if _is_cast(back, TensorProto.FLOAT, ours) else None
        if there is not None and _is_cast(there, TensorProto.FLOAT16, ours):
            same |= {there.input[0]: name} if name in outputs else {name: there.input[0]}
            del nodes[name]
    for node in nodes.values():
        node.input[:] = [_resolved(name, same) for name in node.input]
        node.output[:] = [_resolved(name, same) for name in node.output]
    used = outputs | {name for node in nodes.values() for name in node.input}
    kept = [node for node in nodes.values() if used.intersection(node.output)]
    tidy = helper.make_graph(kept, graph.name, graph.input, graph.output, graph.initializer)
    graph.CopyFrom(tidy)


def _is_cast(node: NodeProto, to: int, ours: frozenset[str]) -> bool:
    """Whether the tools put it in, which they do between these two precisions alone."""
    return node.op_type == "Cast" and node.name not in ours and node.attribute[0].i == to


def _resolved(name: str, same: Mapping[str, str]) -> str:
    while name in same:
        name = same[name]
    return name
