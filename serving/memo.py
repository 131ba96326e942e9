"""What came lately and is likely to come again, so that it is worked out once."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """At most `most` things; all are thrown away at once, where none ever comes again."""

    __slots__ = ("_most",)

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: K, value: V) -> None:
        """Remember `value`."""
        if len(self) >= self._most:
            self.clear()
        self[key] = value
