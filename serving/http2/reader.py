"""Cuts what comes into frames: whole ones, but for data, which is handed on as it comes."""

from typing import Final, Protocol

from serving.http2 import frames
from serving.http2.frames import ConnectionFault, Fault, Kind

# What a header block may come to, packed.
MAX_BLOCK: Final = 64 * 1024
_MAX_BLOCK_PARTS: Final = 64
# Of data, that is: they are handed on as they come, so that large ones cost no more memory.
MAX_FRAME: Final = 1024 * 1024
# What of a frame in one piece is copied rather than looked into.
_SHORT: Final = frames.DEFAULT_FRAME_SIZE
# As plain numbers, which are compared quicker.
_DATA: Final = int(Kind.DATA)
_HEADERS: Final = int(Kind.HEADERS)
_WINDOW_UPDATE: Final = int(Kind.WINDOW_UPDATE)
# What says how the payload of HEADERS is laid out.
_HEADERS_SHAPE: Final = frames.END_HEADERS | frames.PADDED | frames.PRIORITISED
_SIZES: Final[dict[int, int]] = {
    Kind.PRIORITY: 5,
    Kind.RST_STREAM: 4,
    Kind.PING: 8,
    Kind.WINDOW_UPDATE: 4,
}


class Frames(Protocol):
    """What the frames are for."""

    def take_headers(self, flags: int, number: int, block: bytes) -> None:
        """A block of headers has come, all of it."""

    def take_data(self, flags: int, number: int, data: bytes) -> None:
        """A frame of data has come in one piece."""

    def take_window(self, number: int, increment: int) -> None:
        """The peer has room for so much more, on a stream or (0) on the connection."""

    def begin_data(self, flags: int, number: int, size: int, padding: int) -> None:
        """A frame of `size` bytes begins on stream `number`, with so many that are no data."""

    def take_part(self, data: memoryview, is_last: bool) -> None:
        """Data of that frame has come, the last of it or not; the view holds only now."""

    def take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """A whole frame of another kind has come."""


class FrameReader:
    """Reads one connection, from the client's preface on."""

    def __init__(self, to: Frames) -> None:
        self._to = to
        self._expect = frames.PREFACE
        self._rest = b""
        # What is left of the payload of a DATA frame.
        self._left = 0
        # The header block whose end has not come: its stream, flags and parts.
        self._block: tuple[int, int, list[bytes]] | None = None
        self.is_greeted = False

    def receive(self, data: bytes) -> None:
        """Take what the client has sent; ConnectionFault where that is not HTTP/2."""
        if self._rest:
            data = self._rest + data
        position, end = self._greeted(data) if self._expect else 0, len(data)
        while position < end:
            if self._left:
                position = self._go_on(data, position)
                continue
            start = position + frames.HEAD_SIZE
            if start > end:
                break
            high, low, kind, flags, number = frames.HEAD.unpack_from(data, position)
            number &= frames.STREAM_MASK
            size = high << 8 | low
            stop = start + size
            # Nearly every frame is one of these.
            if stop <= end and size <= _SHORT and self.is_greeted and self._block is None:
                if kind == _DATA and not flags & frames.PADDED:
                    position = stop
                    self._to.take_data(flags, number, data[start:stop])
                    continue
                if kind == _HEADERS and flags & _HEADERS_SHAPE == frames.END_HEADERS:
                    position = stop
                    self._to.take_headers(flags, number, data[start:stop])
                    continue
                if kind == _WINDOW_UPDATE and size == 4:
                    position = stop
                    self._to.take_window(number, frames.increment(data[start:stop]))
                    continue
            self._check(kind, size, number)
            if kind == _DATA and not flags & frames.PADDED:
                position = start
                self._left = size
                self._to.begin_data(flags, number, size, 0)
            elif stop > end:
                break
            else:
                position = stop
                self._whole(kind, flags, number, data[start:stop])
        self._rest = data[position:]

    def _greeted(self, data: bytes) -> int:
        """Where the frames begin; the end of `data` where the preface is not yet complete."""
        size = len(self._expect)
        if data[:size] != self._expect[: len(data)]:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "this port speaks HTTP/2 only")
        self._expect = self._expect[len(data) :]
        return min(len(data), size)

    def _check(self, kind: int, size: int, number: int) -> None:
        if size > MAX_BLOCK and (size > MAX_FRAME or kind != Kind.DATA):
            raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "too large a frame")
        if size != _SIZES.get(kind, size):
            raise ConnectionFault(Fault.FRAME_SIZE_ERROR, f"{Kind(kind).name} of a broken size")
        if self._block and (kind != Kind.CONTINUATION or number != self._block[0]):
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a frame amid a header block")
        if not self.is_greeted:
            if kind != Kind.SETTINGS:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "the first frame must be SETTINGS")
            self.is_greeted = True

    def _go_on(self, data: bytes, position: int) -> int:
        part = memoryview(data)[position : position + self._left]
        self._left -= len(part)
        self._to.take_part(part, not self._left)
        return position + len(part)

    def _whole(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == Kind.DATA:
            content = frames.unpadded(flags, payload)
            self._to.begin_data(flags, number, len(payload), len(payload) - len(content))
            self._to.take_part(memoryview(content), True)
        elif kind == Kind.HEADERS:
            block = frames.unpadded(flags, payload)
            if flags & frames.PRIORITISED:
                frames.check_priority(number, block)
                block = block[5:]
            self._take_block(flags, number, [block])
        elif kind == Kind.CONTINUATION:
            if self._block is None:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "CONTINUATION of nothing")
            _, first_flags, parts = self._block
            self._block = None
            parts.append(payload)
            self._take_block(first_flags | flags & frames.END_HEADERS, number, parts)
        else:
            self._to.take(kind, flags, number, payload)

    def _take_block(self, flags: int, number: int, parts: list[bytes]) -> None:
        if len(parts) > _MAX_BLOCK_PARTS or sum(map(len, parts)) > MAX_BLOCK:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "a header block above 64 KiB")
        if flags & frames.END_HEADERS:
            self._to.take_headers(flags, number, b"".join(parts))
        else:
            self._block = number, flags, parts
