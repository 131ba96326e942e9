"""A large body goes from the socket to where its tensors can be used in place.

Read piece by piece, each byte of it would be copied three times: out of the event loop's buffer,
into one piece with the others, and to an address at which the runtime takes it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import numpy as np

# Where runtimes like tensors to begin.
_ALIGNMENT: Final = 64


class LargeBody(asyncio.BufferedProtocol):
    """Stands in for `connection`, until a body of `size` bytes is there.

    `begun` is what has come of it. The byte number `aligned` will lie at an address that suits any
    tensor. `done` is told of the body as soon as it is whole; `more` of each piece before.
    """

    def __init__(
        self,
        connection: asyncio.Protocol,
        size: int,
        begun: bytes,
        aligned: int,
        more: Callable[[], object],
        done: Callable[[memoryview], object],
    ) -> None:
        # Not filled with anything, so that memory which is announced and never sent is never used.
        room = np.empty(size + _ALIGNMENT, np.uint8)
        start = -(room.ctypes.data + aligned) % _ALIGNMENT
        self._body = room.data[start : start + size]
        self._body[: len(begun)] = begun
        self._size = len(begun)
        self._connection = connection
        self._more = more
        self._done = done

    def get_buffer(self, sizehint: int) -> memoryview:
        """The room for the rest: what follows the body is not read."""
        return self._body[self._size :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes more have come."""
        self._size += nbytes
        if self._size < len(self._body):
            self._more()
            return
        # Transports keep hold of the last of these that they had.
        body, self._body = self._body, memoryview(b"")
        self._done(body)

    def eof_received(self) -> bool | None:
        """As the connection has it."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """As the connection has it."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """As the connection has it."""
        self._connection.resume_writing()
