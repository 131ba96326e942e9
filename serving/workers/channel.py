"""Messages between two processes of one server, over a stream socket.

A message is a tuple of plain values (None, booleans, numbers, texts, bytes, and tuples, lists and
dicts of them), and arrays on their way out, which arrive as bytes. `marshal` carries it: both ends
are forks of one process, so that its format is the same, and nothing of it is ever executed.

Large arrays lie in memory that both ends share (`arena`): the message says where.
"""

import asyncio
import marshal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias, cast

import numpy as np

from serving.types import Array
from serving.workers.arena import LEAST, Arena

Message: TypeAlias = tuple[Any, ...]

# Without references between values, which cost more than they save in messages of this kind.
_FORMAT: Final = 2
_LENGTH_BYTES: Final = 8
# In the length of a message that says where arrays lie.
_HAS_PLACES: Final = 1 << 63
# In the place of a message's ticket: the other end needs these places no more.
_RETURNED: Final = -1


class Channel(asyncio.Protocol):
    """One end of a connection; to be used on one event loop.

    `received` is given each message as it comes, `lost` is called once when the other end has gone.
    `arena` is for large arrays, if there is one.
    """

    def __init__(self, received: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self.arena: Arena | None = None
        self._lent = 0  # arrays that the next message tells the places of
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._incoming = bytearray()

    def send(self, *message: Any) -> None:
        """Send a message, together with all others of this round of the event loop.

        What is sent when the other end has gone is forgotten: `lost` says so.
        """
        content = marshal.dumps(message, _FORMAT)
        flag, self._lent = (_HAS_PLACES if self._lent else 0), 0
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing += ((len(content) | flag).to_bytes(_LENGTH_BYTES), content)

    def content(self, array: Array) -> Any:
        """What stands for `array` in the next message, which is to be sent at once."""
        if self.arena is not None and array.nbytes >= LEAST:
            place = self.arena.lend(array)
            if place is not None:
                self._lent += 1
                return (..., *place)
        return np.ascontiguousarray(array)

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
        self._transport = self.arena = None
        self._lost()

    def _is_complete(self) -> bool:
        """Whether the first message that has come is there as a whole."""
        length = int.from_bytes(self._incoming[:_LENGTH_BYTES]) & ~_HAS_PLACES
        return len(self._incoming) >= _LENGTH_BYTES + length

    def _hand_on(self, data: bytes | bytearray) -> int:
        """The number of bytes of `data` that were whole messages."""
        begin = 0
        with memoryview(data) as view:
            while begin + _LENGTH_BYTES <= len(data):
                content = begin + _LENGTH_BYTES
                length = int.from_bytes(view[begin:content])
                end = content + (length & ~_HAS_PLACES)
                if end > len(data):
                    break
                message = marshal.loads(view[content:end])
                begin = end
                self._hand_on_one(self._borrowed(message) if length & _HAS_PLACES else message)
        return begin

    def _hand_on_one(self, message: Message) -> None:
        if message[0] == _RETURNED:
            if self.arena is not None:
                self.arena.take_back(message[1])
        else:
            self._received(message)

    def _borrowed(self, values: Any) -> Any:
        """The same with the arrays themselves, which are looked at where they lie."""
        if type(values) is not tuple:
            return values
        if values and values[0] is ...:
            assert self.arena is not None
            _, offset, size = values
            return self.arena.borrow(offset, size, self._return)
        return tuple(map(self._borrowed, values))

    def _return(self, offset: int) -> None:
        """Nobody looks at that place any more; in any thread, and also when the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(partial(self.send, _RETURNED, offset))

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing:
            self._transport.write(b"".join(self._outgoing))
            self._outgoing.clear()
