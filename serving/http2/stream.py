"""One request and its response, as far as HTTP/2 is concerned."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Stream:
    """An open stream; sizes in bytes.

    `credit`     what the peer may still send
    `advance`    the part of the credit that was given for one large message ahead of its reading
    `returnable` what was read and not yet given back as credit
    `room`       what may still be sent to the peer
    `expected`   what is left of the length that the peer announced, if it did
    `ended`      the peer sends no more
    `pending`    data that waits for room, and `trailers` that then end the stream
    `call`       whatever the stream stands for, to the one who answers it
    """

    id: int
    credit: int
    room: int
    ended: bool = False
    expected: int | None = None
    advance: int = 0
    returnable: int = 0
    pending: deque[memoryview] = field(default_factory=deque)
    trailers: bytes | None = None
    call: Any = None
