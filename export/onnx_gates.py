"""The first gates of an ONNX file of any origin: versions, operators, and what ONNX itself checks.

Each message says what is wrong in the file's own names, and what to do about it.
"""

import re
from functools import cache, partial
from pathlib import Path
from typing import Final

import onnx

from export import operators, validity
from export.errors import FileRefused, GateRefused
from export.onnx_model import OnnxModel
from export.operators import RUNTIME

OLDEST: Final = 7  # what ONNX Runtime promises to read; of older ones it knows a few operators
NEWEST_TRIED: Final = 64
_NO_KERNEL: Final = re.compile(
    r"(?:Could not find an implementation|Failed to find kernel) for (?:[\w.]+\.)?(?P<op>\w+)"
    r"\((?P<since>\d+)\) (?:node with name |\(node:)'(?P<node>[^']*)'"
)


def check(path: Path, model: onnx.ModelProto, source: Path) -> OnnxModel:
    """A session for the model at `path`, which was taken from `source`; raises FileRefused."""
    try:
        _check_versions(model)
        operators.check(model)
        validity.check(path, model, partial(_open, path, model))
        opened = _open(path, model)
        _ = opened.signature  # of which not every type can be sent
        return opened
    except UnicodeDecodeError as error:
        raise FileRefused(
            f"{source}: a name in it is no text, but bytes that are not UTF-8: copy or export it "
            "again"
        ) from error
    except GateRefused as error:
        raise FileRefused(f"{source}: {error}") from error


def opset(model: onnx.ModelProto) -> int | None:
    """The version of ONNX's own operators; None where the model uses none."""
    return operators.opsets(model.opset_import).get("")


def _check_versions(model: onnx.ModelProto) -> None:
    if not model.opset_import:
        raise FileRefused("it states no opset: export it again")
    stated, newest = opset(model), _newest_opset()
    if stated is not None and not OLDEST <= stated <= newest:
        cure = (
            f"export it with opset {newest} or less, or upgrade onnxruntime"
            if stated > newest
            else "export it again, or convert it by onnx.version_converter"
        )
        raise FileRefused(
            f"its graph is of opset {stated}; ONNX Runtime {RUNTIME} reads {OLDEST} to {newest}: "
            f"{cure}"
        )
    if model.ir_version > (known := _newest_ir()):
        raise FileRefused(
            f"its file is of IR version {model.ir_version}; ONNX Runtime {RUNTIME} reads up to "
            f"{known}: save it with ir_version {known}, or upgrade onnxruntime"
        )


@cache
def _newest_opset() -> int:
    """The last one that this runtime reads, which no table tells: by trying."""
    return max(version for version in range(OLDEST, NEWEST_TRIED) if _reads(version, ir=8))


@cache
def _newest_ir() -> int:
    return max(version for version in range(8, NEWEST_TRIED) if _reads(OLDEST, ir=version))


def _reads(version: int, ir: int) -> bool:
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    opsets = [onnx.helper.make_opsetid("", version)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir)
    try:
        OnnxModel(model.SerializeToString())
    except GateRefused:
        return False
    return True


def _open(path: Path, model: onnx.ModelProto) -> OnnxModel:
    try:
        return OnnxModel(path)
    except GateRefused as error:
        if match := _NO_KERNEL.search(str(error)):
            raise FileRefused(_no_kernel(model, **match.groupdict())) from error
        raise


def _no_kernel(model: onnx.ModelProto, op: str, since: str, node: str) -> str:
    """An operator that the runtime knows by name, in a version or for types that it lacks."""
    found = (each for each, _ in operators.used(model) if (each.name, each.op_type) == (node, op))
    return (
        f"ONNX Runtime {RUNTIME} cannot execute {operators.called(op, next(found, None))} on the "
        f"CPU, at least not in version {since} and for its types: export it with others"
    )
