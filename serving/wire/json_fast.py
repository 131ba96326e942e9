"""JSON whose numbers never become Python objects: long flat `data` of inputs go into arrays.

Parsing a tensor's numbers one by one costs more than a small model's inference. simdjson puts
them into a buffer instead. It is used for what is usual only: everything else, and all that is
wrong, is left to `json_text`, which knows the words for it.
"""

from typing import Any, Final

import numpy as np

from serving.dtypes import from_wire
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
_MAX_DEPTH: Final = 32
# simdjson looks for a key among all of them: an object of many would take the square of their time.
_MAX_KEYS: Final = 64
# A parser keeps some ten times as many bytes as its longest text has.
_MAX_KEPT: Final = 4 * 1024 * 1024
_BUFFERS: Final = {
    **dict.fromkeys(("FP32", "FP64"), ("d", np.float64)),
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), ("i", np.int64)),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32", "UINT64"), ("u", np.uint64)),
}


# One for all texts but the longest: it keeps its memory. It refuses a second text while anything of
# the first is referred to, so nothing of its own kind may leave this module.
_PARSER: Final[Any] = simdjson.Parser() if simdjson else None


class _Unusual(Exception):
    """Something that this module does not read."""


def loads(text: bytes) -> Any:
    """As `json_text.loads`; but numeric `data` of `inputs` may come as a flat array.

    The array is of the type that `datatype` says, and holds exactly the numbers of the text.
    """
    # With escapes, one key may hide in another.
    if simdjson is None or len(text) < _LONG or b"\\" in text:
        return json_text.loads(text)
    json_text.check_size(text)
    try:
        return _Reader(text).document
    except (_Unusual, LookupError, ValueError, TypeError, RuntimeError):
        return json_text.loads(text)


class _Reader:
    """Reads one text; `_lists` counts the lists found, so that none can hide inside another."""

    def __init__(self, text: bytes) -> None:
        self._lists = 0
        parser = _PARSER if len(text) <= _MAX_KEPT else simdjson.Parser()
        root = parser.parse(text)
        if not isinstance(root, simdjson.Object):
            raise _Unusual
        self.document = self._object(root, 0)
        if json_text.occurs_more(text, b"[", self._lists):
            raise _Unusual

    def _object(self, value: Any, depth: int) -> dict[str, Any]:
        if len(value) > _MAX_KEYS:
            raise _Unusual
        members: dict[str, Any] = {}
        for name in value:
            if name in members:
                raise _Unusual
            member = value[name]
            if depth == 0 and name == "inputs" and isinstance(member, simdjson.Array):
                self._lists += 1
                members[name] = [self._input(item) for item in member]
            else:
                members[name] = self._plain(member, depth + 1)
        return members

    def _input(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, simdjson.Object) or len(value) > _MAX_KEYS:
            raise _Unusual
        members: dict[str, Any] = {}
        for name in value:
            if name in members:
                raise _Unusual
            member = value[name]
            if name == "data" and isinstance(member, simdjson.Array):
                self._lists += 1
                members[name] = _numbers(member, value["datatype"])
            else:
                members[name] = self._plain(member, 2)
        return members

    def _plain(self, value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise _Unusual
        if isinstance(value, simdjson.Object):
            return self._object(value, depth)
        if isinstance(value, simdjson.Array):
            self._lists += 1
            return [self._plain(item, depth + 1) for item in value]
        if type(value) is list:  # what was a list in a list
            raise _Unusual
        return value


def _numbers(values: Any, datatype: Any) -> Array:
    """The numbers of a list, exactly; ValueError or TypeError where there is anything else."""
    if datatype not in _BUFFERS:
        raise _Unusual
    kind, wide = _BUFFERS[datatype]
    array = np.frombuffer(values.as_buffer(of_type=kind), wide)
    wanted = from_wire(datatype).numpy
    if array.dtype == wanted:
        return array
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            narrow = array.astype(wanted)
        if not np.isfinite(narrow).all():
            raise _Unusual
        return narrow
    limits = np.iinfo(wanted)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise _Unusual
    return array.astype(wanted)
