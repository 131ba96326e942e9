"""Triton's trace settings: what each means, and what it may be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from serving.errors import InvalidArgument, Unsupported

# As the protocol has them: values are texts, the level is a list of them; None takes one back.
Document: TypeAlias = Mapping[str, str | Sequence[str]]
Changes: TypeAlias = Mapping[str, str | Sequence[str] | None]

TIMESTAMPS: Final = "TIMESTAMPS"
TENSORS: Final = "TENSORS"
_OFF: Final = "OFF"
# Triton's older names.
_ALIASES: Final = {"MIN": TIMESTAMPS, "MAX": TIMESTAMPS}
_MAX_UINT32: Final = 2**32 - 1
_MAX_INT32: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """What is traced.

    `levels`         what is recorded; nothing: no traces
    `rate`           one of so many requests; 0: none
    `count`          how many more; -1: no end
    `log_frequency`  traces that make a file; 0: all make one
    """

    levels: tuple[str, ...] = ()
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0

    def document(self) -> dict[str, str | Sequence[str]]:
        """The settings as the protocol has them."""
        return {
            "trace_level": self.levels or (_OFF,),
            "trace_rate": str(self.rate),
            "trace_count": str(self.count),
            "log_frequency": str(self.log_frequency),
        }


def parse(changes: Changes) -> dict[str, Any]:
    """The checked values by the fields of `TraceSettings`, None where one is taken back.

    Raises InvalidArgument for an unknown name or a value that cannot be, Unsupported for the file.
    """
    values = {}
    for name, value in changes.items():
        if name == "trace_file":
            raise Unsupported("trace file location can not be updated through network protocol")
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise InvalidArgument(f"{name}: no trace setting that can change; expected {known}")
        field, read = _FIELDS[name]
        values[field] = None if value is None else read(name, value)
    return values


def _levels(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise InvalidArgument(f"{name}: expected a list, got {value!r}")
    levels = [_ALIASES.get(level, level) for level in value]
    for level in levels:
        if level not in (_OFF, TIMESTAMPS, TENSORS):
            raise InvalidArgument(f"{name}: expected OFF, TIMESTAMPS or TENSORS, got {level!r}")
    if _OFF in levels and len(levels) > 1:
        raise InvalidArgument("Expect only one trace level 'OFF' is specified")
    return tuple(level for level in (TIMESTAMPS, TENSORS) if level in levels)


def _integer(name: str, value: str | Sequence[str], low: int, high: int) -> int:
    if not isinstance(value, str):
        raise InvalidArgument(f"{name}: expected an integer in a string, got {list(value)}")
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidArgument(f"Unable to parse '{name}', got: {value}")
    number = int(value) if len(digits) < len(str(high)) + 1 else high + 1
    if not low <= number <= high:
        raise InvalidArgument(
            f"Unable to parse '{name}', value is out of range [ {low}, {high} ], got: {value}"
        )
    return number


def _unsigned(name: str, value: str | Sequence[str]) -> int:
    return _integer(name, value, 0, _MAX_UINT32)


def _count(name: str, value: str | Sequence[str]) -> int:
    return _integer(name, value, -1, _MAX_INT32)


_Reader: TypeAlias = Callable[[str, str | Sequence[str]], Any]
# Those that may change while the server runs.
_FIELDS: Final[Mapping[str, tuple[str, _Reader]]] = {
    "trace_level": ("levels", _levels),
    "trace_rate": ("rate", _unsigned),
    "trace_count": ("count", _count),
    "log_frequency": ("log_frequency", _unsigned),
}
