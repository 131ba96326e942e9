"""What header blocks mean to all connections of a server whose blocks have been the same so far.

The first blocks of a connection fill the table that later ones refer to. They are long, and the
same on each connection of a client: what came before is not unpacked once more.
"""

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from serving.http2.unpacking import DEFAULT_TABLE, Entry, Headers, Unpacker
from serving.memo import Memo

H = TypeVar("H")

_MOST: Final = 64
_LONGEST: Final = 1024
_MOST_SAID: Final = 4096


def size(block: bytes, headers: Headers) -> int:
    """What it takes to remember a block, in bytes.

    That is more than its own: it may refer to a long value many times.
    """
    return len(block) + sum([len(name) + len(value) for name, value in headers])


class Table(Generic[H]):
    """A state of the table; `known` is what blocks stand for that leave it as it is."""

    __slots__ = ("_entries", "_room", "known")

    def __init__(self, room: int = DEFAULT_TABLE, entries: Iterable[Entry] = ()) -> None:
        self.known: Memo[bytes, H] = Memo(_MOST)
        self._room = room
        self._entries = tuple(entries)

    def unpacker(self) -> Unpacker:
        """What unpacks the blocks of a connection from here on."""
        return Unpacker(self._room, self._entries)


class Tables(Generic[H]):
    """The states that connections have in common, each beginning with that of an empty table.

    `understand` makes of a list of headers what it stands for.
    """

    def __init__(self, understand: Callable[[Headers], H]) -> None:
        self.understand = understand
        self.empty: Table[H] = Table()
        # What has come once is only noted: most of it never comes again.
        self._noted: Memo[tuple[Table[H], bytes], None] = Memo(_MOST)
        self._steps: Memo[tuple[Table[H], bytes], tuple[H, Table[H]]] = Memo(_MOST)

    def read(self, table: Table[H], block: bytes) -> tuple[H, Table[H]] | None:
        """What `block` stands for, and the table behind it; None where nobody can tell yet.

        Raises ConnectionFault where it cannot be unpacked.
        """
        key = table, block
        step = self._steps.get(key)
        if step is not None:
            return step
        if len(block) > _LONGEST:
            return None
        if key in self._noted:
            return self._learn(table, block)
        self._noted.keep(key, None)
        return None

    def _learn(self, table: Table[H], block: bytes) -> tuple[H, Table[H]] | None:
        unpacker = table.unpacker()
        headers, is_changed = unpacker.unpack(block)
        if size(block, headers) > _MOST_SAID:
            return None
        meaning = self.understand(headers)
        if not is_changed:
            table.known.keep(block, meaning)
            return meaning, table
        step = meaning, Table[H](unpacker.room, unpacker.entries)
        self._steps.keep((table, block), step)
        return step
