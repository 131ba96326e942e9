"""Numbers in JSON that never become Python objects: the lists of an input's `data`.

Parsing a tensor's numbers one by one costs more than a small model's inference. So the lists are
taken out of the text: what is left of it is short, repeats from request to request, and is read as
any JSON is. The lists are put into arrays by simdjson. That is for what is usual only: everything
else, and all that is wrong, is left to `json_text` and `json_tensors`, which know the words for it.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from serving.dtypes import Datatype
from serving.types import Array
from serving.wire import json_text
from serving.wire.fields import TensorHeader

try:
    import simdjson as _simdjson
except ImportError:  # there is no wheel of it for every Python
    simdjson: Any = None
else:
    simdjson = _simdjson

# Below, a Python list is as quick.
_LONG: Final = 512
_KEY: Final = b'"data"'
_SPACE: Final = b" \t\r\n"
# As many keys are looked at.
_MOST: Final = 64
# As much is read at a time, some milliseconds in which no other thread does anything. A parser
# keeps some ten times as many bytes as its longest text has.
_PIECE: Final = 1024 * 1024
_NUMBERS: Final = b"0123456789+-.eE" + _SPACE
_BUFFERS: Final = {
    **dict.fromkeys((Datatype.FP32, Datatype.FP64), ("d", np.float64)),
    **dict.fromkeys(
        (Datatype.INT8, Datatype.INT16, Datatype.INT32, Datatype.INT64), ("i", np.int64)
    ),
    **dict.fromkeys(
        (Datatype.UINT8, Datatype.UINT16, Datatype.UINT32, Datatype.UINT64), ("u", np.uint64)
    ),
}


class _Kept(threading.local):
    """A thread's parser, which keeps its memory.

    It refuses a second text while anything of the first is referred to, so nothing of its own kind
    may leave this module.
    """

    def __init__(self) -> None:
        self.parser: Any = simdjson.Parser() if simdjson else None


_KEPT: Final = _Kept()


class Unusual(Exception):
    """Something that this module does not read."""


def take_out(text: bytes) -> tuple[bytes, list[bytes]]:
    """What is left of a JSON text without the lists after its keys `data`, and these.

    In place of the list with index n stands `[n]`. Nothing of it is checked: only if what is left
    is JSON, and each of the lists as well, have they been lists. Texts that are not worth it, and
    those in which a quotation mark may be part of a string, stay whole.
    """
    if simdjson is None or len(text) < _LONG or b"\\" in text:
        return text, []
    parts: list[bytes] = []
    lists: list[bytes] = []
    end = position = 0  # of the last list, and of the search
    for _ in range(_MOST):
        key = text.find(_KEY, position)
        if key < 0:
            break
        position = key + len(_KEY)
        start = text.find(b"[", position)
        if start < 0:
            break
        if text[position:start].strip(_SPACE) != b":":
            continue
        parts += (text[end:start], b"[%d]" % len(lists))
        end = position = _end(text, start)
        if not end:
            return text, []
        lists.append(text[start:end])
    if not lists:
        return text, []
    json_text.check_size(text)
    return b"".join((*parts, text[end:])), lists


def _end(text: bytes, start: int) -> int:
    """Where the list that begins at `start` ends, if it is one of numbers or of lists of them.

    0 where there is no end.
    """
    end = text.find(b"]", start) + 1
    if text.find(b"[", start + 1, end) < 0:
        return end
    # What follows is another key, or the end of what has this one.
    after = [place for place in (text.find(b'"', end), text.find(b"}", end)) if place >= 0]
    return text.rfind(b"]", start, min(after)) + 1 if after else 0


def numbers(text: bytes, header: TensorHeader) -> Array:
    """The flat array of exactly the numbers of a JSON list, which may be nested as the shape is.

    Unusual where there is anything else, and where the type cannot hold an element.
    """
    if header.datatype not in _BUFFERS:
        raise Unusual
    kind, wide = _BUFFERS[header.datatype]
    wanted = header.datatype.numpy
    if text.find(b"[", 1) >= 0:
        _check_nesting(text, header.shape)
    elif len(text) > _PIECE:
        arrays = [_narrow(_parsed(piece, kind, wide), wanted) for piece in _pieces(text)]
        if not all(array.size for array in arrays):  # a comma at the end
            raise Unusual
        return np.concatenate(arrays)
    return _narrow(_parsed(text, kind, wide), wanted)


def _check_nesting(text: bytes, shape: Sequence[int]) -> None:
    brackets = text.translate(None, _NUMBERS)
    length = 0
    for size in reversed(shape):
        length = 1 + size * (length + 1)
    # Looked at first: a shape may ask for any number of them.
    if length != len(brackets):
        raise Unusual
    expected = b""
    for size in reversed(shape):
        expected = b"[%b]" % b",".join([expected] * size)
    if brackets != expected:
        raise Unusual


def _pieces(text: bytes) -> Iterator[bytes]:
    """Lists that together have the elements of a long flat one."""
    start = 1
    while (end := text.find(b",", start + _PIECE)) >= 0:
        yield b"[%b]" % text[start:end]
        start = end + 1
    yield b"[%b" % text[start:]


def _parsed(text: bytes, kind: str, wide: Any) -> Array:
    parser = _KEPT.parser if len(text) <= 2 * _PIECE else simdjson.Parser()
    try:
        return np.frombuffer(parser.parse(text).as_buffer(of_type=kind), wide)
    except (ValueError, TypeError, RuntimeError):
        raise Unusual from None


def _narrow(array: Array, wanted: "np.dtype[Any]") -> Array:
    if array.dtype == wanted:
        return array
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            narrow = array.astype(wanted)
        if not np.isfinite(narrow).all():
            raise Unusual
        return narrow
    limits = np.iinfo(wanted)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise Unusual
    return array.astype(wanted)
