"""Messages as gRPC frames them: whether it is compressed (a byte), the length, the content."""

import zlib
from collections import deque
from struct import Struct
from typing import Final

from grpc import StatusCode

PREFIX: Final = Struct(">BL")

IDENTITY: Final = "identity"
ENCODINGS: Final = (IDENTITY, "deflate", "gzip")
# What zlib calls the formats: gzip with its own header, deflate with zlib's.
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}


class Unreadable(Exception):
    """What came is no message, or a larger one than is taken."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def frame(message: bytes, encoding: str = IDENTITY) -> bytes:
    """`message` with its prefix, packed by `encoding` where that makes it smaller."""
    bits = _WINDOW_BITS.get(encoding)
    if bits:
        packer = zlib.compressobj(wbits=bits)
        packed = packer.compress(message) + packer.flush()
        if len(packed) < len(message):
            return PREFIX.pack(1, len(packed)) + packed
    return PREFIX.pack(0, len(message)) + message


def unpack(content: bytearray, encoding: str, limit: int) -> bytes:
    """The message, of at most `limit` bytes, that `frame` packed; Unreadable if there is none."""
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        message = unpacker.decompress(content, limit + 1)
    except zlib.error as error:
        raise Unreadable(StatusCode.INTERNAL, f"a broken {encoding} message: {error}") from None
    if len(message) > limit:
        raise Unreadable(StatusCode.RESOURCE_EXHAUSTED, "Decompressed message larger than max")
    if not unpacker.eof:
        raise Unreadable(StatusCode.INTERNAL, f"an incomplete {encoding} message")
    return message


class Inbox:
    """The messages of one request, complete or coming; at most `limit` bytes each."""

    __slots__ = ("_compressed", "_encoding", "_head", "_limit", "_messages", "_missing", "_partial")

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding
        self._limit = limit
        self._messages: deque[tuple[bytearray, bool]] = deque()
        self._head = b""
        self._partial: bytearray | None = None
        self._missing = 0
        self._compressed = False

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def missing(self) -> int:
        """The bytes still to come of a message that has begun; 0 between messages."""
        return self._missing

    @property
    def is_broken(self) -> bool:
        """Whether an end here would be one in the middle of a message."""
        return bool(self._head) or self._partial is not None

    def take(self) -> tuple[bytearray, bool]:
        """The next message, and whether it is packed."""
        return self._messages.popleft()

    def feed(self, data: memoryview) -> None:
        """Take what has come; Unreadable if that cannot be."""
        position = 0
        while position < len(data):
            if self._partial is None:
                position = self._begin(data, position)
            else:
                position = self._go_on(self._partial, data, position)

    def _begin(self, data: memoryview, position: int) -> int:
        stop = position + PREFIX.size - len(self._head)
        self._head += data[position:stop]
        if len(self._head) < PREFIX.size:
            return len(data)
        flag, self._missing = PREFIX.unpack(self._head)
        self._head = b""
        if self._missing > self._limit:
            raise Unreadable(
                StatusCode.RESOURCE_EXHAUSTED,
                f"SERVER: Received message larger than max ({self._missing} vs. {self._limit})",
            )
        if flag > 1 or (flag and self._encoding not in _WINDOW_BITS):
            raise Unreadable(StatusCode.INTERNAL, "a compressed message without grpc-encoding")
        self._compressed = bool(flag)
        self._partial = bytearray()
        return stop if self._missing else self._go_on(self._partial, data, stop)

    def _go_on(self, partial: bytearray, data: memoryview, position: int) -> int:
        part = data[position : position + self._missing]
        partial += part
        self._missing -= len(part)
        if not self._missing:
            self._messages.append((partial, self._compressed))
            self._partial = None
        return position + len(part)
