"""Numbers in JSON that never become Python objects: flat lists of an input's `data`.

Parsing a tensor's numbers one by one costs more than a small model's inference. So the lists are
taken out of the text: what is left of it is short, repeats from request to request, and is read as
any JSON is. The lists are put into arrays by simdjson. That is for what is usual only: everything
else, and all that is wrong, is left to `json_text` and `json_tensors`, which know the words for it.
"""

from typing import Any, Final

import numpy as np

from serving.dtypes import Datatype
from serving.types import Array
from serving.wire import json_text

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
# A parser keeps some ten times as many bytes as its longest text has.
_MAX_KEPT: Final = 4 * 1024 * 1024
_BUFFERS: Final = {
    **dict.fromkeys((Datatype.FP32, Datatype.FP64), ("d", np.float64)),
    **dict.fromkeys(
        (Datatype.INT8, Datatype.INT16, Datatype.INT32, Datatype.INT64), ("i", np.int64)
    ),
    **dict.fromkeys(
        (Datatype.UINT8, Datatype.UINT16, Datatype.UINT32, Datatype.UINT64), ("u", np.uint64)
    ),
}

# One for all texts but the longest: it keeps its memory. It refuses a second text while anything of
# the first is referred to, so nothing of its own kind may leave this module.
_PARSER: Final[Any] = simdjson.Parser() if simdjson else None


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
        end = position = text.find(b"]", start) + 1
        if not end:
            return text, []
        lists.append(text[start:end])
    if not lists:
        return text, []
    json_text.check_size(text)
    return b"".join((*parts, text[end:])), lists


def numbers(text: bytes, datatype: Datatype) -> Array:
    """The flat array of exactly the numbers of a JSON list; Unusual where there is anything else.

    Elements that the type cannot hold are unusual too.
    """
    if datatype not in _BUFFERS:
        raise Unusual
    kind, wide = _BUFFERS[datatype]
    parser = _PARSER if len(text) <= _MAX_KEPT else simdjson.Parser()
    try:
        array = np.frombuffer(parser.parse(text).as_buffer(of_type=kind), wide)
    except (ValueError, TypeError, RuntimeError):
        raise Unusual from None
    return _narrow(array, datatype.numpy)


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
