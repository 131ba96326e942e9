"""Header blocks: those that come are read by what is known; those that leave need no table."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Generic, TypeVar

from serving.http2.tables import Table, Tables, size
from serving.http2.unpacking import Unpacker

H = TypeVar("H")

_MAX_KNOWN: Final = 64
_MAX_KNOWN_BYTES: Final = 64 * 1024
_LITERAL: Final = b"\x00"  # never to be indexed by a table; the name is spelt out
# How the next block begins where a peer's table for our headers has less room than by default. We
# put nothing into it, so that none at all is enough.
NO_TABLE: Final = b"\x20"
_STATUS_OK: Final = b"\x88"
_STATUS_NAME: Final = b"\x08"


class HeaderReader(Generic[H]):
    """The blocks of one connection, and what they stand for by `tables`.

    A client that sends the same headers again sends a few bytes that refer to a table. As long as
    the table is the same they mean the same, so they are unpacked and understood once. A connection
    has a table of its own from the first block on that has not come on another one.
    """

    def __init__(self, tables: Tables[H]) -> None:
        self._tables = tables
        self._table: Table[H] = tables.empty
        self._own: Unpacker | None = None
        self._known: dict[bytes, H] = tables.empty.known
        # For what is known of a table of its own.
        self._room = _MAX_KNOWN_BYTES

    def read(self, block: bytes) -> H:
        """What the block stands for; ConnectionFault where it cannot be unpacked."""
        known = self._known.get(block)
        if known is not None:
            return known
        if self._own is None:
            step = self._tables.read(self._table, block)
            if step is not None:
                meaning, self._table = step
                self._known = self._table.known
                return meaning
            self._own = self._table.unpacker()
            self._known = self._known.copy()
        return self._read_alone(self._own, block)

    def _read_alone(self, own: Unpacker, block: bytes) -> H:
        headers, is_changed = own.unpack(block)
        meaning = self._tables.understand(headers)
        if is_changed:
            self._known.clear()
            self._room = _MAX_KNOWN_BYTES
        elif len(self._known) < _MAX_KNOWN and (taken := size(block, headers)) <= self._room:
            self._room -= taken
            self._known[block] = meaning
        return meaning


def status(code: int) -> bytes:
    """The block that begins a response."""
    return _STATUS_OK if code == 200 else _STATUS_NAME + _text(str(code).encode())


def block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block of headers; names in lower case."""
    return b"".join(_LITERAL + _text(name) + _text(value) for name, value in headers)


def field(name: str, value: str) -> bytes:
    """A block of one header, whose name comes again and again."""
    return _name(name) + _text(value.encode())


@lru_cache(maxsize=64)
def _name(name: str) -> bytes:
    return _LITERAL + _text(name.encode())


def _text(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes((size,)) + value
    size -= 127
    prefix = bytearray((127,))
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + value
