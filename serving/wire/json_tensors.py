"""JSON data to arrays and back: `data` of a tensor, flat or nested, in row-major order."""

import json
from itertools import chain
from typing import Any, Final

import numpy as np
import orjson

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, Malformed
from serving.types import Array, Tensor
from serving.wire import json_text
from serving.wire.elements import bytes_array, numeric_array
from serving.wire.fields import TensorHeader, check_count, fault, show

_BINARY_ONLY: Final = (Datatype.FP16, Datatype.BF16)
# As many elements are written at a time, some milliseconds in which no other thread does anything.
_PIECE: Final = 64 * 1024


def decode(data: Any, header: TensorHeader, field: str) -> Array:
    """The array of `header` from `data`: a flat list, or lists nested as its shape is.

    It may be an array already, flat and of the header's type (see `json_fast`). Elements are taken
    exactly (see `elements`); BYTES elements are strings, held as UTF-8.
    Raises InvalidArgument that names `field`, such as `inputs[0].data`.
    """
    if isinstance(data, np.ndarray):
        check_count(header, data.size, field)
        return data.reshape(header.shape)
    if header.datatype in _BINARY_ONLY:
        wire = header.datatype.wire
        raise InvalidArgument(f"{field}: expected binary data, since JSON cannot carry {wire}")
    if type(data) is not list:
        raise fault(field, "a list", data)
    values = _flatten(data, header.shape, field)
    if header.datatype is Datatype.BYTES:
        check_count(header, len(values), field)
        return bytes_array(_utf8(values, field), header)
    return numeric_array(values, header, field)


def encode(tensor: Tensor) -> orjson.Fragment:
    """What `json_text.dumps` turns into the tensor's flat `data`; raises as `text` does."""
    return orjson.Fragment(text(tensor))


def text(tensor: Tensor) -> bytes:
    """The JSON of the tensor's flat `data`.

    Numbers that are not finite appear as NaN, Infinity and -Infinity. Raises InvalidArgument where
    only binary data can carry the output: FP16, BF16, and BYTES that are not UTF-8.
    """
    if tensor.datatype in _BINARY_ONLY:
        raise _needs_binary(tensor, f"JSON cannot carry {tensor.datatype.wire}")
    flat = np.ascontiguousarray(tensor.array).reshape(-1)
    if tensor.datatype is Datatype.BYTES:
        try:
            return json_text.dumps([element.decode() for element in flat.tolist()])
        except UnicodeDecodeError:
            raise _needs_binary(tensor, "its bytes are not UTF-8") from None
    written = _written(flat)
    if tensor.datatype.is_float and b"null" in written:
        return _name_non_finite(written, flat)
    return written


def _flatten(data: list[Any], shape: tuple[int, ...], field: str) -> list[Any]:
    if not data or type(data[0]) is not list:
        return data
    expected = f"one flat list or lists nested as shape {list(shape)}"
    level: list[Any] = [data]
    for size in shape:
        for item in level:
            if type(item) is not list:
                raise fault(field, expected, item)
            if len(item) != size:
                raise Malformed(
                    f"{field}: expected {expected}, got a list of {len(item)} in place of {size}"
                )
        level = list(chain.from_iterable(level))
    return level


def _utf8(values: list[Any], field: str) -> list[bytes]:
    for index, value in enumerate(values):
        if type(value) is not str:
            raise Malformed(
                f"{field}: expected strings for BYTES, got {show(value)} at element {index}"
            )
    return [value.encode() for value in values]


def _written(flat: Array) -> bytes:
    if flat.size <= _PIECE:
        return json_text.dumps(flat)
    pieces = (flat[start : start + _PIECE] for start in range(0, flat.size, _PIECE))
    return b"[%b]" % b",".join(json_text.dumps(piece)[1:-1] for piece in pieces)


def _name_non_finite(text: bytes, flat: Array) -> bytes:
    """`text`, the JSON list of `flat`, with each null replaced by the name of its number."""
    first, *rest = text.split(b"null")
    names = (json.dumps(value).encode() for value in flat[~np.isfinite(flat)].tolist())
    return first + b"".join(chain.from_iterable(zip(names, rest, strict=True)))


def _needs_binary(tensor: Tensor, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"output '{tensor.name}': {why}; ask for it with the parameter binary_data true"
    )
