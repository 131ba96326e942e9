"""Gate: what ONNX's own checker says of a file.

It is shown what it can judge. What is left to who reads the file, as the shape of an output, and
what the runtime has and ONNX does not know, is told or hidden in a copy beside it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import onnx

from export import operators
from export.errors import FileRefused
from export.onnx_model import OnnxModel

_UNJUDGED: Final = "com.microsoft"  # the runtime's own domain, of which the checker judges nothing


def check(path: Path, model: onnx.ModelProto, opened: Callable[[], OnnxModel]) -> None:
    """The checker's rules, and shapes that contradict each other; raises FileRefused.

    `opened` is called where only the runtime can tell a shape."""
    # Shape inference takes sparse weights for numbers without dimensions.
    infers = not model.graph.sparse_initializer
    try:
        with _judged(path, model, opened) as shown:
            onnx.checker.check_model(shown, full_check=infers)
    except UnicodeDecodeError:
        raise
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,  # of a type of elements that it does not know
    ) as error:
        reason = str(error).strip().partition("\n")[0]
        raise FileRefused(f"it is not valid ONNX: {reason}") from error


@contextmanager
def _judged(path: Path, model: onnx.ModelProto, opened: Callable[[], OnnxModel]) -> Iterator[Path]:
    """The file that the checker shall see."""
    if not (_without_shape(model) or any(_is_hidden(*used) for used in operators.used(model))):
        yield path
        return
    judged = onnx.ModelProto()
    judged.CopyFrom(model)
    _hide(judged)
    judged = onnx.shape_inference.infer_shapes(judged)
    _state_shapes(judged, opened)
    copy = path.with_name(f".judged-{uuid4().hex}{path.suffix}")
    try:
        copy.write_bytes(judged.SerializeToString())
    except OSError as error:
        raise FileRefused(
            f"{path.parent}: has no room for another copy of it ({error.strerror}): choose another "
            "folder for such by TMPDIR"
        ) from error
    try:
        yield copy
    finally:
        copy.unlink()


def _is_hidden(node: onnx.NodeProto, versions: Mapping[str, int]) -> bool:
    """Whether the runtime has the operator, and the checker does not know it here."""
    place = operators.domain(node.domain)
    if place == _UNJUDGED:
        return place not in versions  # the runtime takes its own domain's for granted
    return place == "" and "" in versions and not operators.is_standard(node, versions)


def _hide(model: onnx.ModelProto) -> None:
    """Puts such operators into a domain of which the checker judges nothing."""
    for node, versions in operators.used(model):
        if _is_hidden(node, versions):
            node.domain = _UNJUDGED
    for body in (model, *model.functions):
        if _UNJUDGED not in operators.opsets(body.opset_import):
            body.opset_import.add(domain=_UNJUDGED, version=1)


def _state_shapes(model: onnx.ModelProto, opened: Callable[[], OnnxModel]) -> None:
    """States what the runtime tells of shapes that the model leaves out. FileRefused for one that
    it does not tell either."""
    lacking = _without_shape(model)
    shapes = opened().shapes if lacking else {}
    for each in lacking:
        sizes = shapes[each.name]
        if not sizes:  # so it says of a scalar and where it does not know
            raise FileRefused(
                f"{each.name!r} has no shape, and none follows from the others: export it again "
                "with the number of its dimensions, which may be of any size"
            )
        for size in sizes:
            dim = each.type.tensor_type.shape.dim.add()
            if isinstance(size, int):
                dim.dim_value = size
            elif size:
                dim.dim_param = size


def _without_shape(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs and outputs that are tensors of any number of dimensions."""
    return [
        each
        for each in (*model.graph.input, *model.graph.output)
        if each.type.HasField("tensor_type") and not each.type.tensor_type.HasField("shape")
    ]
