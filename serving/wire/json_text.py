"""Bytes to JSON values and back, within limits: depth, size, distinct keys, Unicode, doubles."""

import json
import math
from typing import Any, Final, NoReturn

import orjson

from serving.errors import Malformed
from serving.wire.fields import show

MAX_DEPTH: Final = 100
# A text of few bytes can hold so many empty lists that they fill the memory, and that the server
# does nothing else for a minute. Tensors are as short when they are flat.
MAX_CONTAINERS: Final = 1_000_000

# Some editors and libraries begin every file with it; a parser may overlook it (RFC 8259).
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SHORT: Final = 2048
_CONTAINERS: Final = frozenset((dict, list))
_MAY_HOLD_COLONS: Final = frozenset((dict, str))


def loads(text: bytes) -> Any:
    """The value of a JSON text in UTF-8, behind a byte order mark or not; NaN, Infinity and
    -Infinity are numbers in it.

    Raises Malformed for anything that is not JSON, for nesting deeper than `MAX_DEPTH`, for more
    lists and objects than `MAX_CONTAINERS`, for a key twice in one object, and for numbers that
    overflow a double.
    """
    check_size(text)
    text = text.removeprefix(_BYTE_ORDER_MARK)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in text and b"Infinity" not in text:
            _refuse(error)
        value = _loads_slowly(text)
    if _may_be_deep(text) and _is_deep(value):
        _refuse(ValueError(f"JSON nesting depth exceeds the limit of {MAX_DEPTH}"))
    return _loads_slowly(text) if _may_repeat_a_key(text, value) else value


def check_size(text: bytes) -> None:
    """Raises Malformed for a text with more brackets than there may be lists and objects."""
    if len(text) > MAX_CONTAINERS and text.count(b"[") + text.count(b"{") > MAX_CONTAINERS:
        _refuse(
            ValueError(
                f"more than {MAX_CONTAINERS} lists and objects; send tensors flat or as binary data"
            )
        )


def dumps(value: Any) -> bytes:
    """The JSON text of `value`, in which numpy arrays (contiguous) may stand for lists."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _refuse(error: Exception) -> NoReturn:
    raise Malformed(f"failed to parse the request JSON buffer: {error}") from None


def _loads_slowly(text: bytes) -> Any:
    """What orjson does not do: names for numbers that are not finite, and repeated keys."""
    try:
        value = json.loads(text.decode(), parse_float=_float, object_pairs_hook=_object)
        if b"\\u" in text:
            # Half a surrogate pair is no character; only encoding finds it.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        _refuse(error)
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"number is infinity when parsed as double: {show(digits)}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, member in pairs:
        if name in value:
            raise ValueError(f"key {show(name)} is given more than once in one object")
        value[name] = member
    return value


def occurs_more(text: bytes, token: bytes, times: int) -> bool:
    """True if the byte `token` occurs more than `times` times."""
    if len(text) < _SHORT:
        return text.count(token) > times
    # In long texts these bytes are rare, and finding them is much quicker than counting.
    position = text.find(token)
    while position >= 0 and times > 0:
        times -= 1
        position = text.find(token, position + 1)
    return position >= 0


def _may_be_deep(text: bytes) -> bool:
    half = MAX_DEPTH // 2
    return occurs_more(text, b"[", half) or occurs_more(text, b"{", half)


def _is_deep(value: Any) -> bool:
    """True if containers are nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below = []
        for container in level:
            members = container.values() if type(container) is dict else container
            if not _CONTAINERS.isdisjoint(map(type, members)):
                below += [member for member in members if type(member) in _CONTAINERS]
        level = below
    return bool(level)


def _may_repeat_a_key(text: bytes, value: Any) -> bool:
    """False if all colons of `text` are found again in `value`, so that no key was lost."""
    if b"\\" in text and b"\\u003" in text:
        # An escaped colon would be found again without being there.
        return True
    return occurs_more(text, b":", _count_colons(value) if type(value) is dict else 0)


def _count_colons(value: dict[str, Any]) -> int:
    """The colons in the text of `value`, but for those in rare places: keys, and lists that do not
    begin with an object or a string.
    """
    count = len(value)
    for member in value.values():
        kind = type(member)
        if kind is str:
            count += member.count(":")
        elif kind is dict:
            count += _count_colons(member)
        elif kind is list and member and type(member[0]) in _MAY_HOLD_COLONS:
            count += sum(_count_colons(item) for item in member if type(item) is dict)
            count += sum(item.count(":") for item in member if type(item) is str)
    return count
