"""Puts right what converters of classifiers make of their outputs, and no server can use.

Those of scikit-learn, LightGBM and CatBoost end in a ZipMap, which makes of each row of
probabilities a map by class, and the last one knows no way to leave it out. No server's protocol
carries a sequence of maps; what goes into a ZipMap is a tensor, with a column for each class.
That of LightGBM states one label, however many rows there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import TensorProto, helper

from export import operators

_OPSET: Final = 9  # for a graph that had no operator of ONNX's own
_ML: Final = "ai.onnx.ml"
_CLASSIFIERS: Final = frozenset({"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"})


@dataclass(frozen=True, slots=True)
class Mended:
    """Whether the model was `changed`, and the `classes` of the columns of outputs that were
    maps."""

    changed: bool
    classes: dict[str, tuple[str, ...]]


def mend(model: onnx.ModelProto) -> Mended:
    """Changes the model itself, which nobody has checked yet."""
    classes = _take_maps_out(model)
    freed = _free_labels(model.graph)
    return Mended(freed or bool(classes), classes)


def _take_maps_out(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Has each output that a ZipMap makes be the tensor that goes into it; its classes by name."""
    outputs = {output.name: output for output in model.graph.output}
    found = {}
    for node in model.graph.node:
        classes, made = _classes(node), "".join(node.output[:1])
        if classes and made in outputs:
            shape = helper.make_tensor_type_proto(TensorProto.FLOAT, [None, len(classes)])
            outputs[made].type.CopyFrom(shape)
            node.CopyFrom(helper.make_node("Identity", node.input, node.output, node.name))
            found[made] = tuple(map(_text, classes))
    if found and "" not in operators.opsets(model.opset_import):
        model.opset_import.add(domain="", version=_OPSET)
    return found


def _classes(node: onnx.NodeProto) -> Sequence[bytes | int]:
    """Those of a ZipMap; of any other node none."""
    if (node.domain, node.op_type) != (_ML, "ZipMap"):
        return ()
    return next(filter(None, ([*each.strings, *each.ints] for each in node.attribute)), ())


def _text(value: bytes | int) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _free_labels(graph: onnx.GraphProto) -> bool:
    """Whether there were outputs that said to be one label, where there is one for each row."""
    freed = False
    if not any(_sizes(given)[:1] == [1] for given in graph.input):
        for output in graph.output:
            if _sizes(output) == [1] and _is_label(output.name, graph):
                output.type.tensor_type.shape.dim[0].Clear()
                freed = True
    return freed


def _sizes(value: onnx.ValueInfoProto) -> list[int]:
    """Of a tensor's dimensions; 0 for one of any size."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _is_label(name: str, graph: onnx.GraphProto) -> bool:
    """Whether a classifier's first output has become this one, but for its type."""
    makers = {each: node for node in graph.node for each in node.output}
    for _ in graph.node:  # and no further, in a graph that goes in a circle
        node = makers.get(name)
        if node is None or node.op_type not in ("Cast", "Identity") or not node.input:
            break
        name = node.input[0]
    node = makers.get(name)
    made = node is not None and node.domain == _ML and node.op_type in _CLASSIFIERS
    return made and name == makers[name].output[0]
