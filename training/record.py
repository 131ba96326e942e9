"""Dataclasses to JSON and back. Reading is strict: nothing unknown, every type as annotated, every
field present but those with a default, which older files lack; so that a damaged file is named for
what it is and not met later as a riddle."""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(record: Any) -> dict[str, Any]:
    return asdict(record)


def from_json(kind: type[T], value: object, where: str = "") -> T:
    """Raises ValueError, whose text names the field by its path, such as `signature.inputs[0]`."""
    return typing.cast(T, _decode(kind, value, where))


def _decode(kind: Any, value: object, where: str) -> object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(arguments, value, where)
    if origin is tuple:
        items = _expect(list, value, where)
        return tuple(_decode(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(items))
    if origin is dict:
        table = _expect(dict, value, where)
        return {key: _decode(arguments[1], v, _join(where, key)) for key, v in table.items()}
    if kind is float and type(value) is int:
        return float(value)
    return _expect(kind, value, where)


def _decode_dataclass(kind: Any, value: object, where: str) -> object:
    table: Mapping[str, object] = _expect(dict, value, where)
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    required = [field.name for field in fields(kind) if not _has_default(field)]
    if missing := [name for name in required if name not in table]:
        raise ValueError(f"{_join(where, missing[0])} is missing")
    if unknown := [key for key in table if key not in names]:
        raise ValueError(f"{_join(where, unknown[0])} is not a known field")
    present = [name for name in names if name in table]
    return kind(**{name: _decode(hints[name], table[name], _join(where, name)) for name in present})


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _decode_union(kinds: tuple[Any, ...], value: object, where: str) -> object:
    if value is None and types.NoneType in kinds:
        return None
    # An exact match first, lest `int | float` turn a count into a float.
    exact = [kind for kind in kinds if kind is type(value)]
    candidates = exact or [kind for kind in kinds if kind is not types.NoneType]
    for kind in candidates[:-1]:
        try:
            return _decode(kind, value, where)
        except ValueError:
            continue
    return _decode(candidates[-1], value, where)


def _expect(kind: type[T], value: object, where: str) -> T:
    # `type(...) is`, not isinstance: True is no count.
    if type(value) is not kind:
        found = "null" if value is None else f"{type(value).__name__} {value!r:.60}"
        raise ValueError(f"{where or 'the document'} must be {kind.__name__}, not {found}")
    return value


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
