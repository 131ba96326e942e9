"""JSON as people write it: one example or a list of examples, bare or under the key `inputs`."""

import math
from collections.abc import Sequence
from typing import Any, Final

from serving.errors import InvalidArgument
from serving.types import Array, TensorSpec
from serving.wire import json_tensors, json_text, tables
from serving.wire.fields import fault, show, tensor_header

KEY: Final = "inputs"


def decode(body: bytes, spec: TensorSpec, columns: Sequence[str] = ()) -> Array:
    """The examples in `body`, one a row; `spec.dims` are those of one example.

    Nested lists are an example if they are as deep as `dims`, a list of examples if they are one
    deeper; a flat list of an example's length is an example as well. Objects that name `columns`
    stand for lists. Raises InvalidArgument.
    """
    document = json_text.loads(body)
    bare = type(document) is not dict or (KEY not in document and bool(columns))
    data = document if bare else document.get(KEY)
    if columns:
        data = tables.by_name(data, columns)
    if type(data) is not list:
        raise fault("body" if bare else KEY, "a list", data)
    shape = _shape(data)
    fitted = _fit(shape, spec)
    header = tensor_header(spec.name, spec.datatype.wire, list(shape), KEY, ())
    return json_tensors.decode(data, header, KEY).reshape(fitted)


def _shape(data: Any) -> tuple[int, ...]:
    """The shape that the first elements suggest; `json_tensors` finds what deviates from it."""
    shape = []
    while type(data) is list:
        shape.append(len(data))
        data = data[0] if data else None
    return tuple(shape)


def _fit(shape: tuple[int, ...], spec: TensorSpec) -> tuple[int, ...]:
    """`shape` with the row dimension in front, whether it was given or not."""
    dims = spec.dims
    if len(shape) == len(dims) + 1:
        return shape
    if len(shape) == len(dims):
        return (1, *shape)
    if len(shape) == 1 and -1 not in dims and shape[0] == math.prod(dims):
        return (1, *dims)
    raise InvalidArgument(
        f"{KEY}: expected an example of shape {list(dims)} for input '{spec.name}', or a list of "
        f"such examples, got a list of shape {show(list(shape))}"
    )
