"""Tensors as raw bytes: little-endian, row-major, without padding; BYTES with length prefixes."""

from struct import Struct
from typing import Final

import numpy as np

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import Array, Tensor
from serving.wire.elements import bytes_array
from serving.wire.fields import TensorHeader, size_mismatch

_LENGTH: Final = Struct("<I")
# A view of fewer bytes takes longer to make than their copy.
_SMALL: Final = 4096


def decode(
    data: bytes | memoryview, header: TensorHeader, model: str, identifier: str = ""
) -> Array:
    """The array of `header` that `data` holds, exactly.

    `model` and `identifier` are those of the request, to be named in errors.

    The array looks into `data` without a copy (but for BOOL and BYTES), so it may be read-only and
    unaligned. Raises InvalidArgument if `data` is longer or shorter than the shape needs.
    """
    datatype = header.datatype
    if datatype is Datatype.BYTES:
        return bytes_array(_split(bytes(data), header, model), header)
    size = header.elements * datatype.itemsize
    if len(data) != size:
        raise size_mismatch(header, model, identifier, size, len(data))
    if datatype is Datatype.BOOL:
        # A byte that is neither 0 nor 1 would be a bool that equals neither.
        return np.ndarray(header.shape, np.uint8, data).astype(np.bool_)
    return np.ndarray(header.shape, datatype.numpy, data)


def encode(tensor: Tensor) -> bytes | memoryview:
    """The bytes of `tensor`; of a large array a view, of one byte an item, if it is contiguous."""
    array = tensor.array
    if tensor.datatype is Datatype.BYTES:
        return _join(array.ravel().tolist())
    if array.nbytes <= _SMALL:
        return array.tobytes()
    return np.ascontiguousarray(array).data.cast("B")


def _split(data: bytes, header: TensorHeader, model: str) -> list[bytes]:
    elements: list[bytes] = []
    position, end = 0, len(data)
    while position < end:
        start = position + _LENGTH.size
        if start > end:
            raise _truncated(header, model, len(elements), start - end)
        position = start + _LENGTH.unpack_from(data, start - _LENGTH.size)[0]
        if position > end:
            raise _truncated(header, model, len(elements), position - end)
        elements.append(data[start:position])
    if len(elements) != header.elements:
        raise InvalidArgument(
            f"input element count mismatch for BYTES input '{header.name}' for model '{model}'. "
            f"Expected {header.elements}, got {len(elements)}"
        )
    return elements


def _join(elements: list[bytes]) -> bytes:
    parts: list[bytes] = []
    for element in elements:
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def _truncated(header: TensorHeader, model: str, index: int, missing: int) -> InvalidArgument:
    return InvalidArgument(
        f"incomplete BYTES data for input '{header.name}' for model '{model}': element {index} "
        f"needs {missing} more bytes"
    )
