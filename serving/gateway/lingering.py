"""The end of a connection whose client may still be sending: what comes is thrown away for a while.

A system that closes with bytes unread resets the connection, and a reset takes along what the
client has not read yet: the very answer that tells it to stop.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

# So long, and so much, as a client with a large body may take to see that it has been answered.
_SECONDS: Final = 5.0
_BYTES: Final = 1024 * 1024 * 1024
# Everything goes here, and nobody looks at it.
_ROOM: Final = bytearray(256 * 1024)


class Outlet:
    """What uvicorn writes the answer of `cycle` to, and closes: the transport, but for its end.

    `linger` is called in place of closing where the request has not been read to its end.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        cycle: RequestResponseCycle,
        linger: Callable[[], object],
    ) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self._transport = transport
        self._cycle = cycle
        self._linger = linger

    def close(self) -> None:
        """Close at once only where nothing more is to come."""
        if self._cycle.more_body:
            self._linger()
        else:
            self._transport.close()


class Lingering(asyncio.BufferedProtocol):
    """Takes the place of `connection`, to which nothing more will be written, and ends it.

    The client is told by the end of what it reads; it is cut off when it does not stop either.
    """

    def __init__(self, connection: asyncio.Protocol, transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport
        self._left = _BYTES
        self._timer = asyncio.get_running_loop().call_later(_SECONDS, transport.abort)
        transport.set_protocol(self)
        if transport.can_write_eof():  # TLS cannot: there, the answer itself says that it ends
            transport.write_eof()

    def get_buffer(self, sizehint: int) -> bytearray:
        """The same room for everything."""
        return _ROOM

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have been thrown away."""
        self._left -= nbytes
        if self._left <= 0:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._timer.cancel()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """As the connection has it."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """As the connection has it."""
        self._connection.resume_writing()
