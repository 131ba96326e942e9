"""A connection with a client beside it that writes frame by frame, also what no client should."""

from typing import Any, NamedTuple

import hpack

from serving.http2 import frames
from serving.http2.connection import Connection, Terms
from serving.http2.frames import ConnectionFault, Fault, Kind
from serving.http2.stream import Stream
from serving.http2.tables import Tables
from serving.http2.unpacking import Headers

REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    ("content-type", "application/grpc"),
)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def parsed(content: bytes) -> list[Frame]:
    """The frames in `content`, which must be whole."""
    found = []
    while content:
        high, low, kind, flags, stream = frames.HEAD.unpack_from(content)
        end = frames.HEAD_SIZE + (high << 8 | low)
        assert len(content) >= end
        found.append(Frame(kind, flags, stream, content[frames.HEAD_SIZE : end]))
        content = content[end:]
    return found


class Call:
    """What has become of a request, in the log."""

    def __init__(self, stream: Stream, log: list[tuple[Any, ...]]) -> None:
        self._stream = stream
        self._log = log

    def receive(self, data: bytes | memoryview) -> None:
        self._log.append(("received", self._stream.id, bytes(data), self._stream.ended))

    def cancel(self) -> None:
        self._log.append(("reset", self._stream.id))

    def drained(self) -> None:
        self._log.append(("drained", self._stream.id))


class Peer:
    """The client, and what answers it: it records, and leaves answering to the test.

    `log` lists what was asked of it, `writes` what it wrote, `now` is the clock's time in seconds.
    """

    def __init__(self, terms: Terms | None = None) -> None:
        self.now = 0.0
        self.over = 0
        self.log: list[tuple[Any, ...]] = []
        self.streams: dict[int, Stream] = {}
        self.writes: list[bytes] = []
        self._sent = bytearray()
        self._encoder = hpack.Encoder()
        self.connection: Connection[Headers] = Connection(
            self,
            Tables(lambda headers: headers),
            self._write,
            self._clock,
            terms or Terms(),
            self._end,
        )

    def _write(self, content: bytes) -> None:
        self.writes.append(content)
        self._sent.extend(content)

    def _clock(self) -> float:
        return self.now

    def _end(self) -> None:
        self.over += 1

    # What answers

    def opened(self, stream: Stream, request: Headers) -> None:
        self.streams[stream.id] = stream
        stream.call = Call(stream, self.log)
        self.log.append(("opened", stream.id, dict(request).get(b":path", b""), stream.ended))

    # What asks

    def greet(self, settings: bytes | None = None) -> "Peer":
        """Begin as every client does; what the server says to that is not kept."""
        self.connection.receive(frames.PREFACE + (settings or frames.settings({})))
        self.answers()
        return self

    def send(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        self.connection.receive(frames.frame(kind, flags, stream, payload))

    def block(self, *headers: tuple[str, str]) -> bytes:
        return self._encoder.encode(headers or REQUEST)

    def ask(self, stream: int, data: bytes | None = None) -> None:
        """A request, with its headers only or complete."""
        ends = frames.END_STREAM if data is None else 0
        self.send(Kind.HEADERS, frames.END_HEADERS | ends, stream, self.block())
        if data is not None:
            self.send(Kind.DATA, frames.END_STREAM, stream, data)

    def begin(self, stream: int) -> None:
        """A request whose data is still to come."""
        self.send(Kind.HEADERS, frames.END_HEADERS, stream, self.block())

    def answers(self) -> list[Frame]:
        """The frames that have come since the last time."""
        content, self._sent[:] = bytes(self._sent), b""
        return parsed(content)

    def kinds(self) -> list[int]:
        return [frame.kind for frame in self.answers()]

    def fault(self, content: bytes) -> Fault:
        """The fault that ends the connection when `content` comes."""
        try:
            self.connection.receive(content)
        except ConnectionFault as fault:
            return fault.fault
        raise AssertionError("the connection goes on")

    def reset_with(self) -> list[tuple[int, int]]:
        """The streams that the server has reset since the last time, and why."""
        return [
            (frame.stream, int.from_bytes(frame.payload))
            for frame in self.answers()
            if frame.kind == Kind.RST_STREAM
        ]
