"""Header blocks unpacked, by the `hpack` package where they are not as plain as nearly all are."""

from collections.abc import Sequence
from typing import Final, TypeAlias

import hpack
from hpack.huffman_table import decode_huffman
from hpack.table import table_entry_size

from serving.http2.frames import ConnectionFault, Fault

Entry: TypeAlias = tuple[bytes, bytes]
Headers: TypeAlias = Sequence[Entry]

# What a list of headers may come to, unpacked and with 32 bytes for each: beyond it the connection
# ends, since what is left unread would have changed the table that later blocks refer to.
MAX_LIST: Final = 128 * 1024
# What a table has room for, in bytes, until its peer says something else.
DEFAULT_TABLE: Final = 4096
_SHORT: Final = 0x7F  # the sizes below it take one byte
_MAX_PLAIN: Final = 1024


class Unpacker:
    """Unpacks the blocks of one connection, from a table of `room` bytes with `entries` on.

    The newest entry comes first.
    """

    def __init__(self, room: int = DEFAULT_TABLE, entries: Sequence[Entry] = ()) -> None:
        self._decoder = hpack.Decoder(MAX_LIST)
        self._decoder.header_table_size = room
        for name, value in reversed(entries):
            self._decoder.header_table.add(name, value)

    @property
    def room(self) -> int:
        """What the table has room for."""
        return self._decoder.header_table.maxsize

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is in the table."""
        return tuple(self._decoder.header_table.dynamic_entries)

    def unpack(self, block: bytes) -> tuple[Headers, bool]:
        """The headers of a block, and whether the table is another one after it.

        ConnectionFault where it cannot be unpacked.
        """
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
        same = newest is (table.dynamic_entries[0] if table.dynamic_entries else None)
        return headers, not same or before != (len(table.dynamic_entries), table.maxsize)

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
