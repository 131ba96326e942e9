"""Checks and wording that both protocols share: the name, datatype and shape of a tensor."""

import math
import reprlib
from collections.abc import Container, Sized
from typing import Any, Final, NamedTuple

from serving.dtypes import Datatype, from_wire
from serving.errors import InvalidArgument, Malformed
from serving.types import request_label

# The ranks and sizes that every supported numpy can represent.
_MAX_RANK: Final = 32
_MOST: Final = 4096
_MAX_BYTES: Final = 2**63 - 1
# A BYTES element is at least a pointer in an array.
_POINTER: Final = 8

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_JSON_WORDS: Final = {None: "null", True: "true", False: "false"}


class TensorHeader(NamedTuple):
    """What a request says about a tensor before its data; `elements` is how many."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    elements: int


def show(value: object) -> str:
    """`value` as a message quotes it: short, and as the client wrote it."""
    if value is None or value is True or value is False:
        return _JSON_WORDS[value]
    return _SHORT.repr(value)


def fault(field: str, expected: str, got: object) -> Malformed:
    """The error of a field that holds something else than it must."""
    return Malformed(f"{field}: expected {expected}, got {show(got)}")


def unsigned(value: object, field: str) -> int:
    """`value`, if it is a whole number from 0 on."""
    if type(value) is not int or value < 0:
        raise fault(field, "a non-negative integer", value)
    return value


def tensor_header(
    name: object, datatype: object, shape: object, field: str, seen: Container[str]
) -> TensorHeader:
    """The checked header of the tensor at `field`, such as `inputs[0]`.

    `shape` must be a list. `seen` holds the names given before. Raises InvalidArgument.
    """
    checked = tensor_name(name, field, seen)
    try:
        known = from_wire(datatype)
    except InvalidArgument as error:
        refusal = InvalidArgument if type(datatype) is str else Malformed
        raise refusal(f"{field}.datatype: {error.message}") from None
    dims = _shape(shape, field)
    return TensorHeader(checked, known, dims, _element_count(dims, known, field))


def tensor_name(name: object, field: str, seen: Container[str]) -> str:
    """The name of the tensor at `field`, a string that is not in `seen`."""
    if type(name) is not str:
        raise fault(f"{field}.name", "a string", name)
    if name in seen:
        raise InvalidArgument(f"{field}.name: expected each name once, got {show(name)} again")
    return name


def check_many(given: Sized, field: str) -> None:
    """Malformed for more inputs, outputs or parameters than any model has.

    Each takes longer to check than to send, and nobody else is answered meanwhile.
    """
    if len(given) > _MOST:
        raise fault(field, f"at most {_MOST}", len(given))


def check_count(header: TensorHeader, given: int, field: str) -> None:
    """Malformed unless `given` elements fill the tensor exactly."""
    if given != header.elements:
        expected = f"{header.elements} elements for shape {list(header.shape)}"
        raise Malformed(f"{field}: expected {expected}, got {given}")


def size_mismatch(
    header: TensorHeader, model: str, identifier: str, expected: object, got: int
) -> InvalidArgument:
    """The error of an input of `got` bytes that do not fill its shape, in Triton's words.

    `model` and `identifier` are those of its request.
    """
    return InvalidArgument(
        f"{request_label(identifier)}input byte size mismatch for input '{header.name}' for "
        f"model '{model}'. Expected {expected}, got {got}"
    )


def _shape(dims: Any, field: str) -> tuple[int, ...]:
    if type(dims) is list and len(dims) > _MAX_RANK:
        raise fault(f"{field}.shape", f"at most {_MAX_RANK} dimensions", len(dims))
    if type(dims) is not list or not all(type(dim) is int and dim >= 0 for dim in dims):
        raise fault(f"{field}.shape", "a list of non-negative integers", dims)
    return tuple(dims)


def _element_count(shape: tuple[int, ...], datatype: Datatype, field: str) -> int:
    count = math.prod(shape)
    # A zero must not hide dimensions that no array can have beside it.
    extent = count or math.prod(filter(None, shape))
    if extent * (datatype.itemsize or _POINTER) > _MAX_BYTES:
        raise fault(f"{field}.shape", f"at most {_MAX_BYTES} bytes in all", list(shape))
    return count
