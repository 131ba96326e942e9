"""Messages between two processes of one server, over a stream socket.

A message is a tuple of plain values (None, booleans, numbers, texts, bytes, and tuples, lists and
dicts of them), and arrays on their way out, which arrive as bytes. `marshal` carries it: both ends
are forks of one process, so that its format is the same, and nothing of it is ever executed.
"""

import asyncio
import marshal
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

Message: TypeAlias = tuple[Any, ...]

# Without references between values, which cost more than they save in messages of this kind.
_FORMAT: Final = 2
_LENGTH_BYTES: Final = 8


class Channel(asyncio.Protocol):
    """One end of a connection; to be used on one event loop.

    `received` is given each message as it comes, `lost` is called once when the other end has gone.
    """

    def __init__(self, received: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._incoming = bytearray()

    def send(self, *message: Any) -> None:
        """Send a message, together with all others of this round of the event loop.

        What is sent when the other end has gone is forgotten: `lost` says so.
        """
        content = marshal.dumps(message, _FORMAT)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing += (len(content).to_bytes(_LENGTH_BYTES), content)

    def close(self) -> None:
        """End the connection, behind what was sent."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Which uvloop's transports are, though they do not say so.
        self._transport = cast(asyncio.Transport, transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Hand on the messages that are complete."""
        if not self._incoming:
            whole = self._hand_on(data)
            self._incoming += data[whole:]
        else:
            self._incoming += data
            # A large message comes in many parts, none of which is to be looked through again.
            if self._is_complete():
                del self._incoming[: self._hand_on(self._incoming)]

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the other end has gone."""
        self._transport = None
        self._lost()

    def _is_complete(self) -> bool:
        """Whether the first message that has come is there as a whole."""
        length = int.from_bytes(self._incoming[:_LENGTH_BYTES])
        return len(self._incoming) >= _LENGTH_BYTES + length

    def _hand_on(self, data: bytes | bytearray) -> int:
        """The number of bytes of `data` that were whole messages."""
        begin = 0
        with memoryview(data) as view:
            while begin + _LENGTH_BYTES <= len(data):
                content = begin + _LENGTH_BYTES
                end = content + int.from_bytes(view[begin:content])
                if end > len(data):
                    break
                self._received(marshal.loads(view[content:end]))
                begin = end
        return begin

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing:
            self._transport.write(b"".join(self._outgoing))
            self._outgoing.clear()
