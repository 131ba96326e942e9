"""Memory that two processes share, for what is large: written once, and looked at where it lies.

It has no name, only a file descriptor, so that nobody else finds it and nothing is left of it when
both processes have ended, however they did. Each of them writes in a half of its own, and has a
piece back when the other needs it no more. Where there is no room, tensors travel as before.
"""

import bisect
import contextlib
import mmap
import os
import weakref
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from serving.types import Array

# Memory is taken when it is first written; what lies beyond KEPT is given back with each piece.
HALF: Final = 256 * 1024 * 1024
KEPT: Final = 32 * 1024 * 1024
# Smaller ones cost less in a message than the way of a piece there and back.
LEAST: Final = 64 * 1024


class Pieces:
    """Which parts of `size` bytes are in use: first fit, so that few pages are ever touched."""

    def __init__(self, size: int) -> None:
        self._free = [(0, size)]  # offsets and sizes, ascending, none next to another
        self._used: dict[int, int] = {}

    def take(self, size: int) -> int | None:
        """The offset of a piece, of whole pages; None if there is no room."""
        needed = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        for index, (offset, room) in enumerate(self._free):
            if room >= needed:
                rest = [(offset + needed, room - needed)] if room > needed else []
                self._free[index : index + 1] = rest
                self._used[offset] = needed
                return offset
        return None

    def give_back(self, offset: int) -> int:
        """The piece at that offset is free again; gives its size."""
        size = self._used.pop(offset)
        index = bisect.bisect(self._free, (offset, 0))
        begin, end = offset, offset + size
        if index < len(self._free) and self._free[index][0] == end:
            end += self._free.pop(index)[1]
        if index and sum(self._free[index - 1]) == begin:
            index -= 1
            begin = self._free.pop(index)[0]
        self._free.insert(index, (begin, end - begin))
        return size


class Arena:
    """One process's view of the memory; `half` is the one that it writes, 0 or 1."""

    def __init__(self, descriptor: int, half: int) -> None:
        self._memory = mmap.mmap(descriptor, 2 * HALF)
        self._begin = half * HALF
        self._pieces = Pieces(HALF)

    def lend(self, array: Array) -> tuple[int, int] | None:
        """Write `array` for the other process; its place and size, None if there is no room."""
        place = self._pieces.take(array.nbytes)
        if place is None:
            return None
        offset = self._begin + place
        into: Array = np.ndarray(array.shape, array.dtype, self._memory, offset)
        np.copyto(into, array)
        return offset, array.nbytes

    def borrow(self, offset: int, size: int, returned: Callable[[int], Any]) -> Array:
        """The bytes that the other process has lent, to be read only.

        `returned` is called with the offset when nobody looks at them any more, in any thread.
        """
        content: Array = np.frombuffer(memoryview(self._memory)[offset : offset + size], np.uint8)
        content.flags.writeable = False
        # Every view of it keeps it alive, and it keeps the memory.
        weakref.finalize(content, returned, offset).atexit = False
        return content

    def take_back(self, offset: int) -> None:
        """The other process needs what was lent at that offset no more."""
        size = self._pieces.give_back(offset - self._begin)
        if offset + size > self._begin + KEPT:
            # Where the system cannot give pages back, they stay for later.
            with contextlib.suppress(OSError):
                self._memory.madvise(mmap.MADV_REMOVE, offset, size)


def create() -> int:
    """The descriptor of new memory for two arenas; whoever has it closes it."""
    descriptor = os.memfd_create("penstock-tensors", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, 2 * HALF)
    except OSError:  # such as for a limit of the sizes of files
        os.close(descriptor)
        raise
    return descriptor
