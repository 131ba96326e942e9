"""Header blocks: those that come are unpacked by `hpack`; those that leave need no table."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, Generic, TypeAlias, TypeVar

import hpack
from hpack.huffman_table import decode_huffman
from hpack.table import table_entry_size

from serving.http2.frames import ConnectionFault, Fault

H = TypeVar("H")
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

# What a list of headers may come to, unpacked and with 32 bytes for each: beyond it the connection
# ends, since what is left unread would have changed the table that later blocks refer to.
MAX_LIST: Final = 128 * 1024
_MAX_KNOWN: Final = 64
_SHORT: Final = 0x7F  # the sizes below it take one byte
_MAX_PLAIN: Final = 1024
_LITERAL: Final = b"\x00"  # never to be indexed by a table; the name is spelt out
# What a peer's table for our headers has room for, until it says something else; and how the next
# block begins where that is less. We put nothing into it, so that none at all is enough.
DEFAULT_TABLE: Final = 4096
NO_TABLE: Final = b"\x20"
_STATUS_OK: Final = b"\x88"
_STATUS_NAME: Final = b"\x08"


class HeaderReader(Generic[H]):
    """The blocks of one connection; `understand` makes of a list of headers what it stands for.

    A client that sends the same headers again sends a few bytes that refer to a table. As long as
    the table is the same they mean the same, so they are unpacked and understood once: `known` is
    what is understood as the table is.
    """

    def __init__(self, understand: Callable[[Headers], H]) -> None:
        self._understand = understand
        self._decoder = hpack.Decoder(MAX_LIST)
        self.known: dict[bytes, H] = {}

    def read(self, block: bytes) -> H:
        """What the block stands for; ConnectionFault where it cannot be unpacked."""
        known = self.known.get(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        newest = table.dynamic_entries[0] if table.dynamic_entries else None
        before = len(table.dynamic_entries), table.maxsize
        try:
            headers = self._unpack(block)
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "too many headers") from None
        except hpack.HPACKError as error:
            raise ConnectionFault(
                Fault.COMPRESSION_ERROR, f"broken header block: {error}"
            ) from None
        understood = self._understand(headers)
        same = newest is (table.dynamic_entries[0] if table.dynamic_entries else None)
        if not same or before != (len(table.dynamic_entries), table.maxsize):
            self.known.clear()
        elif len(self.known) < _MAX_KNOWN:
            self.known[block] = understood
        return understood

    def _unpack(self, block: bytes) -> Headers:
        """The headers of a block; HPACKError where it cannot be unpacked.

        Behind proxies and tracers each request has an id of its own, so that no block comes twice.
        Those are references, and short values of known names; what else there is takes `hpack`
        three times as long.
        """
        fields = _plain(block)
        if fields is None:
            return [(bytes(n), bytes(v)) for n, v in self._decoder.decode(block, raw=True)]
        table, found, size = self._decoder.header_table, [], 0
        for index, value, is_kept in fields:
            header = table.get_by_index(index)
            if value is not None:
                header = header[0], value
                if is_kept:
                    table.add(*header)
            size += table_entry_size(*header)
            if size > MAX_LIST:
                raise hpack.OversizedHeaderListError
            found.append(header)
        return found


def _plain(block: bytes) -> list[tuple[int, bytes | None, bool]] | None:
    """Of each field the index, the value if it is new, and whether the table keeps it.

    None where a block is long, or has anything but references and short values of names that the
    table has.
    """
    if len(block) > _MAX_PLAIN:
        return None
    fields: list[tuple[int, bytes | None, bool]] = []
    at, end = 0, len(block)
    while at < end:
        first = block[at]
        if 0x80 < first < 0xFF:
            fields.append((first & 0x7F, None, False))
            at += 1
            continue
        is_kept = first & 0x40 != 0
        index = first & (0x3F if is_kept else 0x0F)
        # Neither a change of the table's size, nor a new name, nor an index of several bytes.
        if not (0x40 < first < 0x7F if is_kept else first < 0x20 and 0 < index < 0x0F):
            return None
        size = block[at + 1] & 0x7F if at + 1 < end else _SHORT
        value = block[at + 2 : at + 2 + size]
        if size == _SHORT or len(value) < size:
            return None
        if block[at + 1] & 0x80:
            value = decode_huffman(value)
        fields.append((index, value, is_kept))
        at += 2 + size
    return fields


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
