"""Which generation has which row of the batch: a list, and no more.

The rows in use are the first ones, so that a step takes one piece of the cache. Where a row falls
free, the last one moves into it.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Rows(Generic[T]):
    """The members of a batch of at most `limit` rows, each in the row of its place."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._members: list[T] = []

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[T]:
        return iter(self._members)

    @property
    def has_room(self) -> bool:
        """Whether one more may join."""
        return len(self._members) < self._limit

    def join(self, member: T) -> None:
        """Give `member` the row behind all others."""
        if not self.has_room:
            raise ValueError(f"all {self._limit} rows are taken")
        self._members.append(member)

    def leave(self, row: int) -> int:
        """Free `row`; the last row moves into it. Returns which that was: `row`, if it was last."""
        last = self._members.pop()
        if row < len(self._members):
            self._members[row] = last
        return len(self._members)

    def clear(self) -> list[T]:
        """Free all rows; who had them."""
        members, self._members = self._members, []
        return members
