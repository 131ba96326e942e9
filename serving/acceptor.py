"""Takes connections as fast as they come.

uvloop takes one of those that wait in each turn of its loop, and a turn may be a batch of several
milliseconds: of many that come at once, the last would be answered for the first time when others
have been a hundred times.
"""

import asyncio
import contextlib
import errno
import logging
import math
import socket
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

logger: Final = logging.getLogger("penstock.server")

BACKLOG: Final = 2048
# Of connections in one go, lest those that are open wait for long: one costs some 50 microseconds.
_AT_ONCE: Final = 128
# What accept(2) says where there is no room for another connection; it asks again after a pause.
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 1.0  # seconds
# In seconds, as asyncio has it.
_HANDSHAKE: Final = 60.0
# The connection whose handshake is under way, for what the event loop leaves unsaid.
BEGINNING: Final = ContextVar[socket.socket]("beginning")


class Acceptor:
    """Gives each connection to `listener`, a socket that listens, to a protocol that `make` makes.

    Of the event loop that it is made on. The socket is its own from then on. With `tls`, so many
    `handshakes` may be under way at a time, each for `patience` seconds, of which a minute is the
    most: one more ends the one that has taken the longest.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None = None,
        handshakes: float = math.inf,
        patience: float = _HANDSHAKE,
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._make = make
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._most = handshakes
        self._patience = min(patience, _HANDSHAKE) if tls else None
        self._beginning: set[asyncio.Task[None]] = set()
        # The oldest comes first.
        self._handshakes: dict[socket.socket, None] = {}
        self._is_full = False
        self._pause: asyncio.TimerHandle | None = None
        self._go_on()

    def close(self) -> None:
        """Take no more connections; those that were taken stay. Closing again does nothing."""
        if self._pause:
            self._pause.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
        self._listener.close()

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._wait(error)
                    return
                continue  # it has gone already
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    def _wait(self, error: OSError) -> None:
        logger.error("no room for another connection, for now: %s", error.strerror)
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(_PAUSE, self._go_on)

    async def _begin(self, connection: socket.socket) -> None:
        if self._tls:
            self._make_room()
            self._handshakes[connection] = None
            BEGINNING.set(connection)
        try:
            # uvloop would do so itself, asyncio's own loop only where the listener names TCP.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                self._make, connection, ssl=self._tls, ssl_handshake_timeout=self._patience
            )
        except OSError as error:  # among them what TLS refuses
            logger.debug("a connection came to nothing: %s", error)
            connection.close()
        finally:
            self._handshakes.pop(connection, None)

    def _make_room(self) -> None:
        """End the oldest handshake where there are as many as there may be."""
        under_way = len(self._handshakes)
        if under_way < self._most:
            self._is_full = self._is_full and under_way > self._most / 2
            return
        if not self._is_full:
            self._is_full = True
            logger.warning("%d TLS handshakes are under way, which is all there may be", under_way)
        oldest = next(iter(self._handshakes))
        del self._handshakes[oldest]
        with contextlib.suppress(OSError):
            # Its task finds it at its end, and closes it.
            oldest.shutdown(socket.SHUT_RDWR)
