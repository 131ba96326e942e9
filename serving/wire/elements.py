"""Python values to arrays, exactly: no value is rounded to another type, wrapped or cut."""

import struct
from typing import Any, Final

import numpy as np

from serving.dtypes import Datatype
from serving.errors import Malformed
from serving.types import Array
from serving.wire.fields import TensorHeader, check_count, show

# `struct` checks type and range of every element in C, faster than numpy converts a list. A bool
# passes it as an integer, so the types are counted first.
_FORMATS: Final = {
    Datatype.BOOL: "?",
    Datatype.UINT8: "B",
    Datatype.UINT16: "H",
    Datatype.UINT32: "I",
    Datatype.UINT64: "Q",
    Datatype.INT8: "b",
    Datatype.INT16: "h",
    Datatype.INT32: "i",
    Datatype.INT64: "q",
    Datatype.FP32: "f",
    Datatype.FP64: "d",
}
_FLOATS: Final = (Datatype.FP32, Datatype.FP64)


def numeric_array(values: list[Any], header: TensorHeader, field: str) -> Array:
    """The read-only array of `header` that holds `values`, in row-major order.

    Integer types take integers within their range, floating-point types integers and floats that
    are finite there too (or not finite to begin with), BOOL booleans; FP16, BF16 and BYTES have
    ways of their own. Raises Malformed that names `field` and the first element at fault.
    """
    datatype = header.datatype
    check_count(header, len(values), field)
    if _has_other(values, _kinds(datatype)):
        raise _first_fault(values, datatype, field)
    try:
        packed = struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
    except (struct.error, OverflowError):
        raise _first_fault(values, datatype, field) from None
    return np.ndarray(header.shape, datatype.numpy, packed)


def bytes_array(values: list[bytes], header: TensorHeader) -> Array:
    """The BYTES array of `header` that holds exactly its number of `values`, in row-major order."""
    array = np.empty(header.elements, object)
    array[:] = values
    return array.reshape(header.shape)


def _kinds(datatype: Datatype) -> tuple[type, ...]:
    if datatype is Datatype.BOOL:
        return (bool,)
    return (float, int) if datatype in _FLOATS else (int,)


def _has_other(values: list[Any], kinds: tuple[type, ...]) -> bool:
    """True if a value is of a type that is not in `kinds`, in which the usual one comes first."""
    types = list(map(type, values))
    unknown = len(types)
    for kind in kinds:
        if unknown:
            unknown -= types.count(kind)
    return unknown > 0


def _first_fault(values: list[Any], datatype: Datatype, field: str) -> Malformed:
    index = next(i for i, value in enumerate(values) if not _fits(value, datatype))
    return Malformed(
        f"{field}: expected {_expectation(datatype)}, got {show(values[index])} at element {index}"
    )


def _fits(value: object, datatype: Datatype) -> bool:
    if type(value) not in _kinds(datatype):
        return False
    try:
        struct.pack(f"<{_FORMATS[datatype]}", value)
    except (struct.error, OverflowError):
        return False
    return True


def _expectation(datatype: Datatype) -> str:
    if datatype is Datatype.BOOL:
        return "booleans for BOOL"
    if datatype in _FLOATS:
        return f"numbers within the range of {datatype.wire}"
    limits = np.iinfo(datatype.numpy)
    return f"integers from {limits.min} to {limits.max} for {datatype.wire}"
