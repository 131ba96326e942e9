"""Whose time is up next: a heap that is cleaned lazily. Without a clock, as the queues are."""

from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# A lazily cleaned heap is rebuilt when it holds as many stale elements as live ones, and these.
SLACK: Final = 32


class Alarms(Generic[T]):
    """Each alarm is known by its ticket; every operation is O(log n)."""

    def __init__(self) -> None:
        # The heap itself refers to nobody, lest a request's tensors outlive it.
        self._times: list[tuple[int, int]] = []
        self._set: dict[int, T] = {}
        self._ticket = 0

    @property
    def next_at(self) -> int | None:
        """When the earliest alarm goes off."""
        while self._times and self._times[0][1] not in self._set:
            heappop(self._times)
        return self._times[0][0] if self._times else None

    @property
    def first(self) -> T | None:
        """Whose alarm is the earliest."""
        return None if self.next_at is None else self._set[self._times[0][1]]

    def set(self, who: T, when: int) -> int:
        """The ticket of a new alarm for `who` at `when`."""
        self._ticket += 1
        ticket = self._ticket
        self._set[ticket] = who
        heappush(self._times, (when, ticket))
        if len(self._times) > 2 * len(self._set) + SLACK:
            self._times = [time for time in self._times if time[1] in self._set]
            heapify(self._times)
        return ticket

    def cancel(self, ticket: int) -> None:
        """Forget an alarm that has neither gone off nor been cancelled."""
        del self._set[ticket]

    def due(self, now: int) -> tuple[int, T] | None:
        """The earliest alarm, if its time has come, and whose it is; it stays until cancelled."""
        when = self.next_at
        return None if when is None or when > now else (when, self._set[self._times[0][1]])
