"""One request and its response, as far as HTTP/2 is concerned."""

from collections import deque
from typing import Protocol

from msgspec import Struct


class Exchange(Protocol):
    """What answers a request; it must not raise."""

    def receive(self, data: bytes | memoryview) -> None:
        """Data of the request, which is all of it if the stream has ended; it holds only now."""

    def cancel(self) -> None:
        """Nobody waits for the response any more."""

    def drained(self) -> None:
        """What was pending has left."""


class Stream(Struct, eq=False):
    """An open stream; sizes in bytes.

    `credit`     what the peer may still send
    `advance`    the part of the credit that was given for one large message ahead of its reading
    `returnable` what was read and not yet given back as credit
    `room`       what may still be sent to the peer
    `expected`   what is left of the length that the peer announced, if it did
    `ended`      the peer sends no more
    `pending`    data that waits for room, if ever any did, and `trailers` that then end the stream
    `call`       what answers; None where that is refused, or has yet to be found
    """

    id: int
    credit: int
    room: int
    ended: bool = False
    expected: int | None = None
    advance: int = 0
    returnable: int = 0
    pending: deque[memoryview] | None = None
    trailers: bytes | None = None
    call: Exchange | None = None
