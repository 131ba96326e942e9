"""Header blocks: those that come are unpacked by `hpack`; those that leave need no table."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import hpack

from serving.http2.frames import ConnectionFault, Fault

H = TypeVar("H")
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

# What a list of headers may come to, unpacked and with 32 bytes for each: beyond it the connection
# ends, since what is left unread would have changed the table that later blocks refer to.
MAX_LIST: Final = 128 * 1024
_MAX_KNOWN: Final = 64
_LITERAL: Final = b"\x00"  # never to be indexed by a table; the name is spelt out
_STATUS_OK: Final = b"\x88"
_STATUS_NAME: Final = b"\x08"


class HeaderReader(Generic[H]):
    """The blocks of one connection; `understand` makes of a list of headers what it stands for.

    A client that sends the same headers again sends a few bytes that refer to a table. As long as
    the table is the same they mean the same, so they are unpacked and understood once.
    """

    def __init__(self, understand: Callable[[Headers], H]) -> None:
        self._understand = understand
        self._decoder = hpack.Decoder(MAX_LIST)
        self._known: dict[bytes, H] = {}

    def read(self, block: bytes) -> H:
        """What the block stands for; ConnectionFault where it cannot be unpacked."""
        known = self._known.get(block)
        return self._read(block) if known is None else known

    def _read(self, block: bytes) -> H:
        table = self._decoder.header_table
        newest = table.dynamic_entries[0] if table.dynamic_entries else None
        before = len(table.dynamic_entries), table.maxsize
        try:
            headers = [(bytes(n), bytes(v)) for n, v in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "too many headers") from None
        except hpack.HPACKError as error:
            raise ConnectionFault(
                Fault.COMPRESSION_ERROR, f"broken header block: {error}"
            ) from None
        understood = self._understand(headers)
        same = newest is (table.dynamic_entries[0] if table.dynamic_entries else None)
        if not same or before != (len(table.dynamic_entries), table.maxsize):
            self._known.clear()
        elif len(self._known) < _MAX_KNOWN:
            self._known[block] = understood
        return understood


def status(code: int) -> bytes:
    """The block that begins a response."""
    return _STATUS_OK if code == 200 else _STATUS_NAME + _text(str(code).encode())


def block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block of headers; names in lower case."""
    return b"".join(_LITERAL + _text(name) + _text(value) for name, value in headers)


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
