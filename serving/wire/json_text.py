"""Bytes to JSON values and back, within limits: depth, distinct keys, Unicode, 64-bit numbers."""

import json
import math
import re
from typing import Any, Final, NoReturn

import numpy as np
import orjson

from serving.errors import InvalidArgument
from serving.wire.fields import show

MAX_DEPTH: Final = 100

# Possessive, with an optional end: linear in time even on text that is not JSON.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS: Final = b"[]{}"
_NOT_BRACKETS: Final = bytes(code for code in range(256) if code not in _BRACKETS)


def loads(text: bytes) -> Any:
    """The value of a JSON text in UTF-8; NaN, Infinity and -Infinity are numbers in it.

    Raises InvalidArgument for anything that is not JSON, for nesting deeper than `MAX_DEPTH`, for
    a key twice in one object, and for numbers that overflow a double.
    """
    _check_depth(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if b"NaN" in text or b"Infinity" in text:
            return _loads_slowly(text)
        _refuse(error)
    return _loads_slowly(text) if _may_repeat_a_key(text, value) else value


def dumps(value: Any) -> bytes:
    """The JSON text of `value`, in which numpy arrays (contiguous) may stand for lists."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _refuse(error: Exception) -> NoReturn:
    message = f"failed to parse the request JSON buffer: {error}"
    raise InvalidArgument(message) from None


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


def _occurs_more(text: bytes, token: bytes, times: int) -> bool:
    """True if `token` occurs more than `times` times; quicker than counting all of them."""
    position = text.find(token)
    while position >= 0 and times > 0:
        times -= 1
        position = text.find(token, position + 1)
    return position >= 0


def _check_depth(text: bytes) -> None:
    half = MAX_DEPTH // 2
    if not _occurs_more(text, b"[", half) and not _occurs_more(text, b"{", half):
        return
    brackets = _STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    # Clearing one bit makes braces into brackets; 92 lies between "[" (91) and "]" (93).
    steps = 92 - (np.frombuffer(brackets, np.uint8) & 0b1101_1111).astype(np.int64)
    if steps.cumsum().max(initial=0) > MAX_DEPTH:
        _refuse(ValueError(f"JSON nesting depth exceeds the limit of {MAX_DEPTH}"))


def _may_repeat_a_key(text: bytes, value: Any) -> bool:
    """False if every colon of `text` belongs to a key of `value`: then no key was lost."""
    keys = _count_keys(value) if type(value) is dict else 0
    return _occurs_more(text, b":", keys) and _occurs_more(_STRING.sub(b"", text), b":", keys)


def _count_keys(value: dict[str, Any]) -> int:
    """The keys of all objects in `value`, but for those in lists that begin with another type."""
    keys = len(value)
    for member in value.values():
        if type(member) is dict:
            keys += _count_keys(member)
        elif type(member) is list and member and type(member[0]) is dict:
            keys += sum(_count_keys(item) for item in member if type(item) is dict)
    return keys
