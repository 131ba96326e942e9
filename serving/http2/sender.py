"""What leaves: at once where the peer has room for it, else as soon as it makes room."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from serving.http2 import frames, headers, unpacking
from serving.http2.frames import ConnectionFault, Fault, Kind, Setting
from serving.http2.patience import Patience
from serving.http2.stream import Stream

# As plain numbers, which are compared and packed quicker.
_DATA: Final = int(Kind.DATA)
_HEADERS: Final = int(Kind.HEADERS)
_TOO_WIDE: Final = "a window beyond 2^31-1"
_LAST: Final = frames.END_HEADERS | frames.END_STREAM
# What is written at a time of a large message, in as many frames as it takes.
_AT_ONCE: Final = 256 * 1024


class Sender:
    """Frames for one peer, within what it takes.

    `write` takes bytes for the socket; `ended` is told of each stream that has been answered, and
    `cut` of those whose requests had not ended. While `paused` only what is small is written.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        ended: Callable[[Stream], object],
        cut: Callable[[Stream], object],
        patience: Patience,
    ) -> None:
        self.write = write
        self.initial_room = frames.DEFAULT_WINDOW
        self.frame_size = frames.DEFAULT_FRAME_SIZE
        self.paused = False
        self._ended = ended
        self._cut = cut
        self._patience = patience
        self._room = frames.DEFAULT_WINDOW
        self._waiting: dict[int, Stream] = {}
        # What the next block of headers has to begin with.
        self._before = b""

    def set(self, name: int, value: int, streams: Iterable[Stream]) -> None:
        """The peer says what it takes; `streams` are those that are open."""
        if name == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if name == Setting.HEADER_TABLE_SIZE and value < unpacking.DEFAULT_TABLE:
            self._before = headers.NO_TABLE
        if name == Setting.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value < 2**24:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of its range")
            self.frame_size = value
        if name == Setting.INITIAL_WINDOW_SIZE:
            change = value - self.initial_room
            self.initial_room = value
            rooms = [value]
            for stream in streams:
                stream.room += change
                rooms.append(stream.room)
            if max(rooms) > frames.MAX_WINDOW:
                raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, _TOO_WIDE)

    def send(
        self, stream: Stream, block: bytes = b"", data: bytes = b"", trailers: bytes | None = None
    ) -> None:
        """Send a block of headers, data, and the block that ends the stream: those that are given.

        What the peer has no room for waits in the stream.
        """
        if self._patience.is_tried:
            self._patience.answered()
        size = len(data)
        room = 0 if self.paused else self._room if self._room < stream.room else stream.room
        if stream.pending or (size and (size > room or size > self.frame_size)):
            self._send_later(stream, block, data, trailers)
            return
        out = self._headers(stream, block) if block else b""
        if size:
            self._room -= size
            stream.room -= size
            out += frames.frame(_DATA, 0, stream.id, data)
        if trailers is None:
            self.write(out)
        else:
            self._end(stream, out + self._headers(stream, trailers, _LAST))

    def _end(self, stream: Stream, last: bytes) -> None:
        if stream.ended:
            self.write(last)
            self._ended(stream)
            return
        # The client need not send the rest. It hears of that together with the response: some take
        # what comes later for a fault of the request that they have begun since.
        self.write(last + frames.rst_stream(stream.id, Fault.NO_ERROR))
        self._cut(stream)

    def _send_later(
        self, stream: Stream, block: bytes, data: bytes, trailers: bytes | None
    ) -> None:
        if block:
            self.write(self._headers(stream, block))
        if stream.pending is None:
            stream.pending = deque()
        if data:
            stream.pending.append(memoryview(data))
        stream.trailers = trailers
        self._waiting[stream.id] = stream
        self.pump()

    def enlarge(self, increment: int) -> None:
        """The peer has room for so much more, of all streams together."""
        self._room += increment
        if self._room > frames.MAX_WINDOW:
            raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, _TOO_WIDE)
        if self._waiting:
            self.pump()

    def enlarge_stream(self, stream: Stream, increment: int) -> bool:
        """The peer has room for so much more on a stream; False if that is more than may be."""
        stream.room += increment
        if stream.room > frames.MAX_WINDOW:
            return False
        if stream.pending:
            self.pump()
        return True

    def pump(self) -> None:
        """Send what waits and fits, a frame of each stream in turn; of one alone, several."""
        moved = True
        while moved and not self.paused:
            moved = False
            waiting = list(self._waiting.values())
            most = _AT_ONCE if len(waiting) == 1 else self.frame_size
            for stream in waiting:
                if not self.paused and self._room:
                    moved = self._send_some(stream, most) or moved

    def forget(self, stream: Stream) -> None:
        """Nobody waits for what is pending any more."""
        stream.pending = None
        self._waiting.pop(stream.id, None)

    def _send_some(self, stream: Stream, most: int) -> bool:
        """Send up to `most` bytes of what waits in `stream`; False where nothing fits."""
        pending = stream.pending
        assert pending, "a stream waits with something"
        waiting = pending[0]
        size = min(len(waiting), most, self._room, stream.room)
        if size <= 0:
            return False
        if self._patience.is_tried:
            self._patience.answered()
        self._room -= size
        stream.room -= size
        parts: list[bytes | memoryview] = []
        for start in range(0, size, self.frame_size):
            piece = waiting[start : min(start + self.frame_size, size)]
            parts += (frames.head(len(piece), Kind.DATA, 0, stream.id), piece)
        self.write(b"".join(parts))
        if size < len(waiting):
            pending[0] = waiting[size:]
            return True
        pending.popleft()
        if not pending:
            self._emptied(stream)
        return True

    def _emptied(self, stream: Stream) -> None:
        del self._waiting[stream.id]
        if stream.trailers is not None:
            self._end(stream, self._headers(stream, stream.trailers, _LAST))
        elif stream.call is not None:
            stream.call.drained()

    def _headers(self, stream: Stream, block: bytes, flags: int = frames.END_HEADERS) -> bytes:
        if self._before:
            block, self._before = self._before + block, b""
        size = len(block)
        if size <= self.frame_size:
            return frames.frame(_HEADERS, flags, stream.id, block)
        starts = range(0, size, self.frame_size)
        parts = [block[start : start + self.frame_size] for start in starts]
        first = frames.frame(Kind.HEADERS, flags & ~frames.END_HEADERS, stream.id, parts[0])
        middle = (frames.frame(Kind.CONTINUATION, 0, stream.id, part) for part in parts[1:-1])
        last = frames.frame(Kind.CONTINUATION, frames.END_HEADERS, stream.id, parts[-1])
        return b"".join((first, *middle, last))
