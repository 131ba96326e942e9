"""Tensors in files beside a model, such as samples to warm it with: raw bytes, row-major."""

import math
from struct import Struct
from typing import Final

import numpy as np

from serving.dtypes import Datatype
from serving.errors import LoadFailed
from serving.types import Array

_LENGTH: Final = Struct("<I")


def read_array(data: bytes, datatype: Datatype, shape: tuple[int, ...], what: str) -> Array:
    """The array at the beginning of `data`, little-endian; more data than it needs is ignored.

    Texts have their length in bytes before them, in four bytes. LoadFailed if the data ends too
    soon; `what` says where it is from.
    """
    count = math.prod(shape)
    if datatype is Datatype.BYTES:
        texts = np.empty(count, dtype=object)
        texts[:] = _texts(data, count, what)
        return texts.reshape(shape)
    if len(data) < count * datatype.itemsize:
        raise LoadFailed(
            f"{what} has {len(data)} bytes, and a {datatype.wire} tensor of shape {list(shape)} "
            f"needs {count * datatype.itemsize}"
        )
    return np.frombuffer(data, datatype.numpy, count).reshape(shape)


def _texts(data: bytes, count: int, what: str) -> list[bytes]:
    texts: list[bytes] = []
    position = 0
    while len(texts) < count:
        start = position + _LENGTH.size
        position = start + _LENGTH.unpack_from(data, position)[0] if start <= len(data) else start
        if position > len(data):
            raise LoadFailed(f"{what} ends within text {len(texts)} of the {count} that are needed")
        texts.append(data[start:position])
    return texts
