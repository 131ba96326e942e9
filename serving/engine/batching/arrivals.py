"""The queue of most models, whose requests neither wait for company nor rank above each other.

What `BatchQueue` does for every policy, at a fraction of its cost for the plainest: the oldest
request goes next, and with it those of its key behind it: to the largest preferred size that they
make, or else as many as do not exceed it (`max_rows` where none is preferred).
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from serving.engine.batching.alarms import Alarms
from serving.engine.batching.entries import Entry, Refusal, full, too_late
from serving.engine.batching.prefix import prefix
from serving.types import BatchPolicy

T = TypeVar("T", bound=Hashable)


class _Group(Generic[T]):
    """The entries of one key, as they came."""

    __slots__ = ("entries", "rows")

    def __init__(self) -> None:
        self.entries: OrderedDict[T, Entry[T]] = OrderedDict()
        self.rows = 0


class ArrivalQueue(Generic[T]):
    """The requests that wait for one model version, in the order of their arrival."""

    def __init__(self, policy: BatchPolicy) -> None:
        if not suits(policy):
            raise ValueError(f"no order of arrival alone: {policy}")
        self._max_queue = policy.queue.max_queue
        self._max_rows = policy.max_rows
        self._preferred = policy.reachable
        self._goal = policy.goal
        self._entries: OrderedDict[T, Entry[T]] = OrderedDict()
        self._groups: dict[Hashable, _Group[T]] = {}
        self._rows = 0
        self._batches = 0
        self._alarms: Alarms[Entry[T]] = Alarms()
        # Of the entries that have a deadline.
        self._tickets: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._rows

    @property
    def batches(self) -> int:
        """Batches that what waits will make at least."""
        return self._batches

    def line_to(self, entry: Entry[T]) -> tuple[int, int, int]:
        """The rows and batches to run until `entry` has: all that wait, and its own."""
        group = self._groups.get(entry.key)
        more = self._more(group.rows if group else 0, entry.rows)
        return self._rows + entry.rows, self._batches + more, 0

    @property
    def expires_at(self) -> int | None:
        """When `expire` will have something to do."""
        return self._alarms.next_at if self._tickets else None

    def push(self, entry: Entry[T]) -> None:
        """Let `entry` wait; Overloaded if `max_queue` requests do already."""
        if len(self._entries) >= self._max_queue:
            raise full(self._max_queue)
        rows = entry.rows
        if rows > self._max_rows:
            raise ValueError(f"{rows} rows do not fit a batch of {self._max_rows}")
        group = self._groups.get(entry.key)
        if group is None:
            group = self._groups[entry.key] = _Group()
        self._batches += self._more(group.rows, rows)
        self._rows += rows
        group.rows += rows
        self._entries[entry.item] = group.entries[entry.item] = entry
        if entry.deadline is not None:
            self._tickets[entry.item] = self._alarms.set(entry, entry.deadline)

    def discard(self, item: T) -> bool:
        """Forget `item`; False if it does not wait here (any more)."""
        entry = self._entries.get(item)
        if entry is None:
            return False
        self._leave([entry])
        return True

    def expire(self, now: int) -> list[Refusal[T]]:
        """Remove the entries whose deadline has passed; call it before `take`."""
        expired: list[Refusal[T]] = []
        while self._tickets and (alarm := self._alarms.due(now)) is not None:
            entry = alarm[1]
            self._leave([entry])
            expired.append(Refusal(entry, too_late()))
        return expired

    def take(self, now: int, instance: int = 0) -> tuple[list[Entry[T]], int | None]:
        """Remove and return the next batch; to all instances the queue gives alike."""
        if not self._entries:
            return [], None
        entries = self._groups[self._first().key].entries.values()
        length, preferred = prefix((one.rows for one in entries), self._goal, self._preferred)
        taken = list(islice(entries, preferred or length))
        self._leave(taken)
        # What is left, any instance may take at once.
        return taken, self._first().at if self._entries else None

    def is_full(self) -> bool:
        """Whether the next batch would be no larger if it were taken later."""
        return bool(self._entries) and self._groups[self._first().key].rows >= self._goal

    @property
    def has_sequences(self) -> bool:
        """Never: no request has to do with another."""
        return False

    def stop_sequences(self) -> None:
        """There are none."""

    def flush(self) -> None:
        """Nothing waits for company."""

    def _first(self) -> Entry[T]:
        return next(iter(self._entries.values()))

    def _leave(self, entries: Sequence[Entry[T]]) -> None:
        """Forget these entries, which are of one key."""
        key, rows = entries[0].key, 0
        group = self._groups[key]
        for entry in entries:
            item = entry.item
            del self._entries[item], group.entries[item]
            rows += entry.rows
            if self._tickets and (ticket := self._tickets.pop(item, None)) is not None:
                self._alarms.cancel(ticket)
        self._rows -= rows
        group.rows -= rows
        self._batches -= self._more(group.rows, rows)
        if not group.entries:
            del self._groups[key]

    def _more(self, before: int, rows: int) -> int:
        """How many batches more a group of `before` rows makes with so many more."""
        return -(-(before + rows) // self._goal) - -(-before // self._goal)


def suits(policy: BatchPolicy) -> bool:
    """Whether such requests go by their arrival alone."""
    queue = policy.queue
    return (
        policy.merge
        and not policy.max_delay
        and not policy.priority_levels
        and not policy.level_queues
        and not queue.timeout
        and not queue.allow_timeout_override
    )
