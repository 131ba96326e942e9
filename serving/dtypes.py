"""The datatypes of the Open Inference Protocol and what each is called elsewhere."""

from enum import Enum
from typing import Any, Final

import numpy as np

from serving.errors import InvalidArgument


class Datatype(Enum):
    """An element type: its name on the wire, in numpy, in ONNX Runtime and in config.pbtxt.

    BF16 has no numpy type of its own: its arrays hold the raw 16-bit words as `uint16`.
    BYTES arrays are of dtype `object` and hold `bytes`.
    """

    wire: str
    numpy: np.dtype[Any]
    onnx: str
    config: str
    itemsize: int

    def __new__(cls, wire: str, numpy: str, onnx: str) -> "Datatype":
        member = object.__new__(cls)
        member._value_ = wire
        member.wire = wire
        member.numpy = np.dtype(numpy)
        member.onnx = f"tensor({onnx})"
        member.config = "TYPE_STRING" if wire == "BYTES" else f"TYPE_{wire}"
        # A BYTES element has no fixed size; 0 says so.
        member.itemsize = 0 if wire == "BYTES" else member.numpy.itemsize
        return member

    BOOL = "BOOL", "bool", "bool"
    UINT8 = "UINT8", "uint8", "uint8"
    UINT16 = "UINT16", "uint16", "uint16"
    UINT32 = "UINT32", "uint32", "uint32"
    UINT64 = "UINT64", "uint64", "uint64"
    INT8 = "INT8", "int8", "int8"
    INT16 = "INT16", "int16", "int16"
    INT32 = "INT32", "int32", "int32"
    INT64 = "INT64", "int64", "int64"
    FP16 = "FP16", "float16", "float16"
    FP32 = "FP32", "float32", "float"
    FP64 = "FP64", "float64", "double"
    BF16 = "BF16", "uint16", "bfloat16"
    BYTES = "BYTES", "object", "string"

    @property
    def nothing(self) -> Any:
        """The element that says nothing: zero, or the empty text."""
        return b"" if self is Datatype.BYTES else 0

    @property
    def is_float(self) -> bool:
        """True where numpy sees a floating-point type, so NaN and infinity can be looked for."""
        return self.numpy.kind == "f"


_BY_ONNX: Final = {datatype.onnx: datatype for datatype in Datatype}
_BY_CONFIG: Final = {datatype.config: datatype for datatype in Datatype}
_BY_WIRE: Final = {datatype.wire: datatype for datatype in Datatype}


def from_wire(name: object) -> Datatype:
    """The datatype that a request calls `name`; InvalidArgument if there is none."""
    datatype = _BY_WIRE.get(name) if isinstance(name, str) else None
    if datatype is None:
        raise InvalidArgument(f"unknown datatype {name!r}; expected one of {', '.join(_BY_WIRE)}")
    return datatype


def from_onnx(name: str) -> Datatype | None:
    """The datatype of ONNX Runtime's type string, such as `tensor(float)`; None if not carried."""
    return _BY_ONNX.get(name)


def cure(name: str) -> str:
    """What to do about a type of ONNX Runtime that `from_onnx` has nothing for."""
    if name.startswith("tensor("):  # of fewer bits than 8, of FP8 or complex
        return "have the graph cast it to or from one that it can, such as FP32 or INT8"
    return "export it with tensors only"


def from_config(name: str) -> Datatype | None:
    """The datatype of config.pbtxt's name, such as `TYPE_FP32`; None for TYPE_INVALID."""
    return _BY_CONFIG.get(name)
