"""The response cache: answers by what was asked, the least recently used ones making room.

One cache serves all models of a server. Used by the event loop's thread only.
"""

import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np

from serving.dtypes import Datatype
from serving.statistics import CacheStatistics
from serving.types import InferenceRequest, Tensor

_DIGEST_BYTES: Final = 32

# What an entry takes beside its tensors' contents, and each of its tensors: measured, rounded up.
_ENTRY_BYTES: Final = 512
_TENSOR_BYTES: Final = 256


def request_key(request: InferenceRequest) -> bytes:
    """Equal for requests to one version that ask for the same outputs of the very same inputs.

    A cryptographic hash of names, datatypes, shapes and contents: nobody can make two requests
    collide. The order in which the inputs are listed does not matter.
    """
    inputs = sorted(request.inputs, key=lambda tensor: tensor.name)
    # With datatypes and shapes in front, the contents need no marks between them.
    header = repr(
        (
            [(wanted.name, wanted.classification) for wanted in request.outputs],
            [(tensor.name, tensor.datatype.wire, tensor.array.shape) for tensor in inputs],
        )
    ).encode()
    hasher = blake2b(len(header).to_bytes(8), digest_size=_DIGEST_BYTES)
    hasher.update(header)
    for tensor in inputs:
        for part in _contents(tensor):
            hasher.update(part)
    return hasher.digest()


def entry_size(outputs: Sequence[Tensor]) -> int:
    """How many bytes of memory an entry with these outputs takes."""
    return _ENTRY_BYTES + sum(_TENSOR_BYTES + _content_size(tensor) for tensor in outputs)


@dataclass(frozen=True, slots=True)
class _Entry:
    outputs: tuple[Tensor, ...]
    size: int


class ResponseCache:
    """Outputs by owner and key, in at most `size` bytes; an owner is one version of a model."""

    def __init__(self, size: int) -> None:
        self._entries: OrderedDict[tuple[object, bytes], _Entry] = OrderedDict()
        self.statistics = CacheStatistics(size)

    def lookup(self, owner: object, key: bytes) -> tuple[Tensor, ...] | None:
        """The outputs, their arrays read-only; None if they are not here (any more)."""
        begin = time.monotonic_ns()
        entry = self._entries.get((owner, key))
        if entry is None:
            self.statistics.misses += 1
        else:
            self.statistics.hits += 1
            self._entries.move_to_end((owner, key))
        self.statistics.lookup_ns += time.monotonic_ns() - begin
        return entry.outputs if entry else None

    def insert(self, owner: object, key: bytes, outputs: Sequence[Tensor]) -> bool:
        """Keep a copy of `outputs`; False if they alone would exceed the cache."""
        begin = time.monotonic_ns()
        size = entry_size(outputs)
        if size > self.statistics.size:
            return False
        self._remove((owner, key))
        while self.statistics.used + size > self.statistics.size:
            self._remove(next(iter(self._entries)))
            self.statistics.evictions += 1
        self._entries[owner, key] = _Entry(tuple(map(_copy, outputs)), size)
        self.statistics.used += size
        self.statistics.entries += 1
        self.statistics.insertion_ns += time.monotonic_ns() - begin
        return True

    def drop(self, owner: object) -> None:
        """Forget everything of a version that is no longer served."""
        for place in [place for place in self._entries if place[0] is owner]:
            self._remove(place)

    def _remove(self, place: tuple[object, bytes]) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self.statistics.used -= entry.size
            self.statistics.entries -= 1


def _contents(tensor: Tensor) -> Iterator[bytes | memoryview]:
    if tensor.datatype is not Datatype.BYTES:
        yield np.ascontiguousarray(tensor.array).reshape(-1).view(np.uint8).data
        return
    for item in tensor.array.reshape(-1):
        yield len(item).to_bytes(8)
        yield item


def _content_size(tensor: Tensor) -> int:
    if tensor.datatype is not Datatype.BYTES:
        return tensor.array.nbytes
    return tensor.array.nbytes + sum(map(sys.getsizeof, tensor.array.reshape(-1)))


def _copy(tensor: Tensor) -> Tensor:
    """A tensor of its own: those of a batch are views, each of which keeps the whole alive."""
    array = tensor.array.copy()
    array.flags.writeable = False
    return Tensor(tensor.name, tensor.datatype, array)
