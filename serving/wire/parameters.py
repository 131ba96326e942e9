"""What a request's parameters may hold, alike over both protocols."""

from collections.abc import Callable, Container, Mapping
from typing import Any, Final

from serving.errors import InvalidArgument, Unsupported
from serving.types import Parameters, RequestedOutput
from serving.wire.fields import check_many, fault, show, tensor_name

_MAX_UINT64: Final = 2**64 - 1
_MIN_INT64: Final = -(2**63)
_MAX_SEQUENCE_ID: Final = 128  # bytes
_NOTHING: Final = frozenset[str]()


def _is_unsigned(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_UINT64


def _is_boolean(value: object) -> bool:
    return type(value) is bool


def _is_sequence_id(value: object) -> bool:
    return type(value) is str or _is_unsigned(value)


_UNSIGNED: Final = "an unsigned 64-bit integer"
_PROTOCOL: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "sequence_id": (_is_sequence_id, f"{_UNSIGNED} or a string"),
    "sequence_start": (_is_boolean, "a boolean"),
    "sequence_end": (_is_boolean, "a boolean"),
    "priority": (_is_unsigned, _UNSIGNED),
    "timeout": (_is_unsigned, f"{_UNSIGNED} of microseconds"),
}


def request_parameters(given: Mapping[str, Any], allowed: Container[str] = _NOTHING) -> Parameters:
    """The checked parameters of a request; those of the protocol by their own types.

    `allowed` names reserved ones that mean something where the request came from. Raises
    InvalidArgument for other reserved names and for values that no parameter can hold, and, as
    Triton does, Unsupported for the id of a sequence that is too long a text.
    """
    check_many(given, "parameters")
    for name, value in given.items():
        if name in _PROTOCOL:
            is_valid, expected = _PROTOCOL[name]
            if not is_valid(value):
                raise fault(f"parameters.{name}", expected, value)
            if type(value) is str and len(value.encode()) > _MAX_SEQUENCE_ID:
                raise Unsupported("string correlation ID cannot be longer than 128 characters")
        elif _is_reserved(name) and name not in allowed:
            raise InvalidArgument(
                f"parameters.{name}: the name is reserved; 'headers' and parameter keys starting "
                "with 'triton_' are reserved for Triton usage and should not be specified."
            )
        elif not _is_custom(value):
            raise InvalidArgument(
                f"parameters.{name}: expected a string, a boolean, a 64-bit integer or a double, "
                f"got {show(value)}"
            )
    return given


def requested_output(
    name: object, parameters: Mapping[str, Any], field: str, seen: Container[str]
) -> RequestedOutput:
    """The output asked for at `field`, such as `outputs[0]`; `seen` holds the names before it.

    Raises InvalidArgument.
    """
    checked = tensor_name(name, field, seen)
    classes = parameters.get("classification", 0)
    if not _is_unsigned(classes):
        raise fault(f"{field}.parameters.classification", "a non-negative integer", classes)
    return RequestedOutput(checked, classes)


def _is_reserved(name: str) -> bool:
    return name == "headers" or name.startswith("triton_")


def _is_custom(value: object) -> bool:
    if type(value) is int:
        return _MIN_INT64 <= value <= _MAX_UINT64
    return type(value) in (str, bool, float)
