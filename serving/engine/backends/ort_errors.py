"""What ONNX Runtime says of a file that it cannot load, in an operator's words and with the cure.

The patterns fit the releases since 1.20; what fits none is told in the runtime's own words.
"""

import re
from pathlib import Path
from typing import Final

_MISSING: Final = (
    "its weights are in the file {data}, which does not exist: copy it beside the model"
)
_LEAVES: Final = "which leaves the version's folder: save the model with its weights beside it"
_OUTSIDE: Final = f"its weights are in the file {{data}}, {_LEAVES}"
_ABSOLUTE: Final = f"its weights are in a file at an absolute path, {_LEAVES}"
_CURES: Final = tuple(
    (re.compile(pattern, re.DOTALL), cure)
    for pattern, cure in (
        (
            r"Opset (?P<opset>\d+) is under development.* for domain (?P<domain>\S+) is till opset "
            r"(?P<known>\d+)",
            "its graph is of opset {opset} ({domain}), and this runtime knows up to {known}: "
            "upgrade onnxruntime, or export the model with opset {known}",
        ),
        (
            r"Unsupported model IR version: (?P<ir>\d+), max supported IR version: (?P<known>\d+)",
            "its file is of IR version {ir}, and this runtime reads up to {known}: upgrade "
            "onnxruntime, or save the model with ir_version {known}",
        ),
        (
            r"No Op registered for (?P<op>\S+) with domain_version of (?P<opset>\d+)",
            "opset {opset} has no operator {op}, at least not in this runtime: upgrade "
            "onnxruntime, or export the model with operators of its opset",
        ),
        (
            r"(?P<op>\S+?)(?:\(-?\d+\))? is not a registered function/op",
            "its operator {op} is a custom one, and the embedded engine loads no libraries of "
            "such: export the model with standard operators, or serve it with a Triton server",
        ),
        (r"External data path does not exist: \"(?P<data>[^\"]*)\"", _MISSING),
        (r"cannot get file size: No such file or directory \[(?P<data>[^\]]*)\]", _MISSING),
        (r"External data path escapes .* External data path: \"(?P<data>[^\"]*)\"", _OUTSIDE),
        (r"Absolute path not allowed for external data location", _ABSOLUTE),
        (
            r"External initializer: (?P<tensor>.*?) offset: .* out of bounds or can not be read",
            "the file of its weights ends before '{tensor}' does: copy it again",
        ),
    )
)

_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"


def explain(error: str, path: Path) -> str:
    """Why the file `path` cannot be loaded, and the cure, from the runtime's `error`."""
    for pattern, cure in _CURES:
        if match := pattern.search(error):
            return cure.format_map(match.groupdict())
    if "Protobuf parsing failed" in error or "No graph was found" in error:
        return _no_model(path)
    return error.strip()


def _no_model(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        return "it is a pointer of Git LFS in place of the model: run git lfs pull"
    if not start:
        return "it is empty: export or copy the model again"
    size = path.stat().st_size
    return f"it is no ONNX model, or not a whole one ({size} bytes): export or copy it again"
