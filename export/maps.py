"""Takes the maps out of a classifier.

Converters of scikit-learn, LightGBM and CatBoost end in a ZipMap, which makes of each row of
probabilities a map by class, and the last one knows no way to leave it out. No server's protocol
carries a sequence of maps; what goes into a ZipMap is a tensor, with a column for each class.
"""

from collections.abc import Sequence
from typing import Final

import onnx
from onnx import TensorProto, helper

from export import operators

_OPSET: Final = 9  # for a graph that had no operator of ONNX's own


def take_out(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Has each output that a ZipMap makes be the tensor that goes into it.

    The classes of its columns by the output's name; empty where there was nothing to do."""
    outputs = {output.name: output for output in model.graph.output}
    found = {}
    for node in model.graph.node:
        classes = _classes(node)
        if classes and node.output[0] in outputs:
            shape = helper.make_tensor_type_proto(TensorProto.FLOAT, [None, len(classes)])
            outputs[node.output[0]].type.CopyFrom(shape)
            node.CopyFrom(helper.make_node("Identity", node.input, node.output, node.name))
            found[node.output[0]] = tuple(map(_text, classes))
    if found and "" not in operators.opsets(model.opset_import):
        model.opset_import.add(domain="", version=_OPSET)
    return found


def _classes(node: onnx.NodeProto) -> Sequence[bytes | int]:
    """Those of a ZipMap; of any other node none."""
    if (node.domain, node.op_type) != ("ai.onnx.ml", "ZipMap"):
        return ()
    return next(filter(None, ([*each.strings, *each.ints] for each in node.attribute)), ())


def _text(value: bytes | int) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
