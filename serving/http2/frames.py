"""Frames as RFC 9113 lays them out: their numbers, their bytes, and what may be wrong with them."""

from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Length (in two parts), type, flags, stream; the stream's highest bit is reserved.
HEAD: Final = Struct(">HBBBL")
HEAD_SIZE: Final = HEAD.size
STREAM_MASK: Final = 2**31 - 1

DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
DEFAULT_FRAME_SIZE: Final = 16_384

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20

_SETTING: Final = Struct(">HL")
_NUMBER: Final = Struct(">L")
_GOAWAY: Final = Struct(">LL")


class Kind(IntEnum):
    """The types of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Fault(IntEnum):
    """The error codes."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """What either side may tell the other about itself."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ConnectionFault(Exception):
    """The peer broke the rules for the whole connection, which has to end."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes that a payload of `length` bytes follows."""
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return head(len(payload), kind, flags, stream) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(_SETTING.pack(name, value) for name, value in values.items())
    return frame(Kind.SETTINGS, 0, 0, payload)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The names and values in a SETTINGS frame; names that nobody knows among them."""
    if len(payload) % _SETTING.size:
        raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "SETTINGS of a broken size")
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame: leave for `increment` further bytes; stream 0: the connection."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def rst_stream(stream: int, fault: Fault) -> bytes:
    """An RST_STREAM frame."""
    return frame(Kind.RST_STREAM, 0, stream, _NUMBER.pack(fault))


def goaway(last_stream: int, fault: Fault, message: str = "") -> bytes:
    """A GOAWAY frame: streams up to `last_stream` are answered, later ones are not."""
    payload = _GOAWAY.pack(last_stream, fault) + message.encode()
    return frame(Kind.GOAWAY, 0, 0, payload)


def increment(payload: bytes) -> int:
    """What a WINDOW_UPDATE adds."""
    value: int = _NUMBER.unpack(payload)[0] & STREAM_MASK
    return value


def unpadded(flags: int, payload: bytes) -> bytes:
    """What a frame holds beside its padding."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Fault.PROTOCOL_ERROR, "more padding than there is payload")
    return payload[1 : len(payload) - payload[0]]


def check_priority(number: int, payload: bytes) -> None:
    """ConnectionFault for a priority that is none; its advice is not followed."""
    if len(payload) < 5:
        raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "a priority of a broken size")
    if _NUMBER.unpack_from(payload)[0] & STREAM_MASK == number:
        raise ConnectionFault(Fault.PROTOCOL_ERROR, "a stream that depends on itself")
