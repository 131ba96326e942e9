"""Changes inputs by their structure, so that they get past the parser and to what reads it."""

import copy
import json
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError

from serving.config import parse, to_text
from serving.dtypes import Datatype
from serving.errors import LoadFailed
from tests.fuzz import fields

# Inputs to start from are read once: to read them again takes longer than to decode them.
_REMEMBERED: Final = 1024

# Gives another input of the same structure, or None where there is none to change.
Change: TypeAlias = Callable[[random.Random, bytes], bytes | None]

_VALUES: Final[Sequence[Any]] = (
    *(None, True, False, 0, 1, -1, 2, 3, 255, 256, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64),
    *(0.5, -0.0, 1e308, float("nan"), float("inf"), "", "a", "0", "1", "-1", "\u00e9", "\0"),
    *([], {}, [[]], [0], [1, 2], [[1, 2], [3, 4]], [""], [None], [True], [-1], [2, 0], [2**40] * 2),
    *(datatype.wire for datatype in Datatype),
    *("TYPE_FP32", "TYPE_STRING", "KIND_CPU", "onnxruntime", "identity", "ensemble", "REJECT"),
)


def in_json(rng: random.Random, content: bytes) -> bytes | None:
    """Changes a JSON document."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return json.dumps(_changed(rng, document)).encode()


def before(separator: bytes, change: Change) -> Change:
    """Changes what stands before `separator` and leaves the rest."""

    def apply(rng: random.Random, content: bytes) -> bytes | None:
        head, found, rest = content.partition(separator)
        changed = change(rng, head)
        return None if changed is None else changed + found + rest

    return apply


def after_byte(change: Change) -> Change:
    """Changes all but the first byte, which is drawn anew."""

    def apply(rng: random.Random, content: bytes) -> bytes | None:
        changed = change(rng, content[1:])
        return None if changed is None else bytes([rng.randrange(8)]) + changed

    return apply


def in_message(kind: Any) -> Change:
    """Changes the fields of a serialized message of the class `kind`."""

    @lru_cache(_REMEMBERED)
    def message(content: bytes) -> Any:
        try:
            return kind.FromString(content)
        except DecodeError:
            return None

    def apply(rng: random.Random, content: bytes) -> bytes | None:
        changed = _changed_message(rng, message(content))
        # Maps in an order that is the same in every process.
        return changed and bytes(changed.SerializeToString(deterministic=True))

    return apply


def in_config(rng: random.Random, content: bytes) -> bytes | None:
    """Changes the fields of a configuration's text."""
    changed = _changed_message(rng, _config(content))
    return changed and to_text(changed).encode()


@lru_cache(_REMEMBERED)
def _config(content: bytes) -> Any:
    try:
        return parse(content.decode(), "")
    except (UnicodeDecodeError, LoadFailed):
        return None


def _changed_message(rng: random.Random, message: Any) -> Any:
    """A changed copy; None of None."""
    if message is None:
        return None
    copied = type(message)()
    copied.CopyFrom(message)
    fields.change(rng, copied)
    return copied


def _changed(rng: random.Random, document: Any) -> Any:
    """A document of dicts and lists, which this spoils, with one to three changes in it."""
    document = [document]
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change(rng, rng.choice(_places(document)))
    return document[0] if document else None


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        container = waiting.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def _change(rng: random.Random, place: tuple[Any, Any]) -> None:
    container, key = place
    kind = rng.randrange(6)
    value = container[key]
    if kind == 0 and isinstance(container, dict):
        container[rng.choice([*container, "other"])] = container.pop(key)
    elif kind == 0:
        container.insert(key, copy.deepcopy(value))
    elif kind == 1 and isinstance(value, list) and value:
        container[key] = value[: rng.randrange(len(value))]
    elif kind == 2 and isinstance(value, int | float):
        container[key] = value + rng.choice((-1, 1, 0.5, 2**32))
    elif kind == 3:
        container[key] = [value]
    else:
        container[key] = copy.deepcopy(rng.choice(_VALUES))
