"""How much each peer may send: a little for every stream, more for the messages that need it.

A stream begins with 64 KiB, which is given back as it is read. For a larger message the rest is
granted in one piece, ahead of its reading; to several of them within a budget, and beyond it one
after the other, so that what a connection may make the server hold is bounded and the first of
them always comes through.
"""

from collections.abc import Callable
from typing import Final

from serving.http2 import frames
from serving.http2.frames import ConnectionFault, Fault
from serving.http2.stream import Stream

_REFILL: Final = 2**30
_RETURN: Final = frames.DEFAULT_WINDOW // 2


class Credit:
    """The windows that one peer has been given; `budget` bytes may be granted in advance."""

    def __init__(self, write: Callable[[bytes], object], budget: int) -> None:
        self._write = write
        self._budget = budget
        self._connection = frames.MAX_WINDOW
        self._advanced = 0
        # The streams that wait to be granted more, and how much they are to have.
        self.wanting: dict[Stream, int] = {}

    @staticmethod
    def opening() -> bytes:
        """What tells the peer of the connection's own window, which is as large as can be."""
        return frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW)

    def spend(self, size: int) -> None:
        """The peer has sent so much, on whatever stream."""
        self._connection -= size
        if self._connection < 0:
            raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "more than the connection's window")
        if self._connection < _REFILL:
            self._write(frames.window_update(0, frames.MAX_WINDOW - self._connection))
            self._connection = frames.MAX_WINDOW

    def want(self, stream: Stream, size: int) -> None:
        """A message on the stream is read that has so much still to come."""
        if size > stream.credit and not stream.ended:
            self.wanting[stream] = size
            self._grant()

    def give_back(self, stream: Stream, size: int) -> None:
        """So much of the stream has been read, and is held no longer."""
        paid = min(stream.advance, size)
        stream.advance -= paid
        self._advanced -= paid
        stream.returnable += size - paid
        if stream.returnable >= _RETURN and not stream.ended:
            self._extend(stream, stream.returnable)
            stream.returnable = 0
        if paid:
            self._grant()

    def forget(self, stream: Stream) -> None:
        """Nothing more is read from the stream."""
        self.wanting.pop(stream, None)
        if stream.advance:
            self._advanced -= stream.advance
            stream.advance = 0
        self._grant()

    def _grant(self) -> None:
        while self.wanting:
            stream, size = next(iter(self.wanting.items()))
            missing = size - stream.credit
            if self._advanced and self._advanced + missing > self._budget:
                return
            del self.wanting[stream]
            self._advanced += missing
            stream.advance += missing
            self._extend(stream, missing)

    def _extend(self, stream: Stream, size: int) -> None:
        stream.credit += size
        self._write(frames.window_update(stream.id, size))
