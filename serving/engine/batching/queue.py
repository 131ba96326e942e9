"""Which requests run together, and when: a data structure without a runtime or a clock.

Times are nanoseconds of one monotonic clock that the caller reads. Entries of equal key may run
in one batch. Inside a key the order of arrival holds: a batch is a prefix, and no entry is split.

The entries of a key are ready

- when the oldest has waited `max_delay`: the longest prefix of at most `max_rows` rows runs
- when a prefix has exactly a preferred size: the largest such prefix runs
- when waiting gains nothing, since the largest preferred size (`max_rows` if there is none) is
  reached or the next entry would exceed it: the longest prefix within it runs

With no `max_delay` they are always ready, by the second rule or else the third. Of the keys that
are ready, the one whose first entry is the oldest goes first, so none can starve.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import chain, count, islice
from typing import Generic, TypeVar

from serving.errors import Overloaded
from serving.types import BatchPolicy, TimeoutAction

T = TypeVar("T", bound=Hashable)

# A lazily cleaned heap is rebuilt when it holds as many stale elements as live ones, and these.
_SLACK = 32


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """One request that waits; `item` is unique among those waiting.

    `rows`           at most the policy's `max_rows`
    `key`            entries of equal keys may run in one batch
    `at`             when it arrived; not before the entry pushed before it
    `deadline`       when its caller stops waiting
    `queue_timeout`  how long it wishes to wait at most, as a duration; 0 leaves it to the policy
    """

    item: T
    rows: int
    key: Hashable
    at: int
    deadline: int | None = None
    queue_timeout: int = 0


@dataclass(slots=True, eq=False)
class _Place(Generic[T]):
    """Where an entry waits; `alarm` is the ticket of its alarm, if it has one."""

    entry: Entry[T]
    group: "_Group[T]"
    late: bool = False
    alarm: int | None = None


@dataclass(slots=True, eq=False)
class _Line(Generic[T]):
    """Entries in order of arrival; the late ones, past their queue timeout, behind all others."""

    punctual: OrderedDict[T, _Place[T]] = field(default_factory=OrderedDict)
    late: OrderedDict[T, _Place[T]] = field(default_factory=OrderedDict)
    rows: int = 0

    def __len__(self) -> int:
        return len(self.punctual) + len(self.late)

    def __iter__(self) -> Iterator[_Place[T]]:
        return chain(self.punctual.values(), self.late.values())

    def add(self, place: _Place[T]) -> None:
        (self.late if place.late else self.punctual)[place.entry.item] = place
        self.rows += place.entry.rows

    def remove(self, place: _Place[T]) -> None:
        del (self.late if place.late else self.punctual)[place.entry.item]
        self.rows -= place.entry.rows


@dataclass(slots=True, eq=False)
class _Group(_Line[T]):
    """The line of one key; `full` if it is ready before its oldest entry has waited its delay."""

    key: Hashable = None
    full: bool = False

    @property
    def rank(self) -> tuple[bool, int]:
        """Where it stands among the full groups; the lowest goes first."""
        return not self.punctual, next(iter(self)).entry.at


class BatchQueue(Generic[T]):
    """The requests that wait for one model version; every operation is O(log n) per entry."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._delay = policy.max_delay if policy.merge else 0
        self._preferred = frozenset(size for size in policy.preferred if size <= policy.max_rows)
        self._goal = max(self._preferred, default=policy.max_rows)
        self._line: _Line[T] = _Line()
        self._groups: dict[Hashable, _Group[T]] = {}
        # Two heaps, cleaned lazily: full groups by rank, and the times and tickets of alarms.
        # Neither refers to an entry, lest a request's tensors outlive it.
        self._full: list[tuple[tuple[bool, int], int, _Group[T]]] = []
        self._times: list[tuple[int, int]] = []
        self._alarms: dict[int, _Place[T]] = {}
        self._tickets = count()

    def __len__(self) -> int:
        return len(self._line)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._line.rows

    @property
    def expires_at(self) -> int | None:
        """When `expire` will have something to do."""
        while self._times and self._times[0][1] not in self._alarms:
            heappop(self._times)
        return self._times[0][0] if self._times else None

    def push(self, entry: Entry[T]) -> None:
        """Let `entry` wait; Overloaded if `max_queue` requests do already."""
        if len(self) >= self._policy.max_queue:
            raise Overloaded(f"Exceeds maximum queue size of {self._policy.max_queue} requests")
        if entry.rows > self._policy.max_rows:
            raise ValueError(f"{entry.rows} rows do not fit a batch of {self._policy.max_rows}")
        key = entry.key if self._policy.merge else None
        group = self._groups.get(key) or _Group(key=key)
        place = _Place(entry, group)
        self._enter(place)
        self._set_alarm(place, _earliest(entry.deadline, self._late_at(entry)))
        # Behind punctual entries only, a newcomer changes no shorter prefix.
        if group.late or (not group.full and self._complete(group)):
            self._judge(group)

    def discard(self, item: T) -> bool:
        """Forget `item`; False if it does not wait here (any more)."""
        place = self._line.punctual.get(item) or self._line.late.get(item)
        if place is None:
            return False
        self._leave(place)
        self._judge(place.group)
        return True

    def expire(self, now: int) -> list[Entry[T]]:
        """Remove the entries whose deadline or queue timeout has passed; call it before `take`.

        Where the policy delays what timed out, such an entry stays, behind all punctual ones,
        until its deadline.
        """
        expired = []
        rejects = self._policy.timeout_action is TimeoutAction.REJECT
        while (when := self.expires_at) is not None and when <= now:
            place = self._alarms[self._times[0][1]]
            deadline = place.entry.deadline
            self._leave(place)
            if rejects or (deadline is not None and deadline <= now):
                expired.append(place.entry)
            else:
                place.late = True
                self._enter(place)
                self._set_alarm(place, deadline)
            self._judge(place.group)
        return expired

    def take(self, now: int) -> tuple[list[Entry[T]], int | None]:
        """Remove and return the next batch; no entries while waiting for company is better.

        Beside it: the earliest time at which `take` or `expire` could give something (more). A
        time that has passed means at once; None means not before another push.
        """
        choice = self._choose(now)
        if choice is None:
            return [], self._wake_at()
        group, overdue = choice
        places = list(islice(group, self._prefix(group, overdue)))
        for place in places:
            self._leave(place)
        self._judge(group)
        return [place.entry for place in places], self._wake_at()

    def flush(self) -> None:
        """From now on, nothing waits for company."""
        self._delay = 0
        self._full.clear()

    def _enter(self, place: _Place[T]) -> None:
        if not place.group:
            self._groups[place.group.key] = place.group
        place.group.add(place)
        self._line.add(place)

    def _leave(self, place: _Place[T]) -> None:
        self._line.remove(place)
        place.group.remove(place)
        if not place.group:
            del self._groups[place.group.key]
        if place.alarm is not None:
            del self._alarms[place.alarm]
            place.alarm = None

    def _set_alarm(self, place: _Place[T], when: int | None) -> None:
        if when is None:
            return
        place.alarm = next(self._tickets)
        self._alarms[place.alarm] = place
        heappush(self._times, (when, place.alarm))
        if len(self._times) > 2 * len(self._alarms) + _SLACK:
            self._times = [time for time in self._times if time[1] in self._alarms]
            heapify(self._times)

    def _late_at(self, entry: Entry[T]) -> int | None:
        """When `entry` has waited longer than its queue timeout."""
        timeout = self._policy.timeout
        if entry.queue_timeout and self._policy.allow_timeout_override:
            timeout = min(timeout, entry.queue_timeout) if timeout else entry.queue_timeout
        return entry.at + timeout if timeout else None

    def _complete(self, group: _Group[T]) -> bool:
        """Whether the group as a whole says that it need not wait."""
        return group.rows >= self._goal or group.rows in self._preferred

    def _judge(self, group: _Group[T]) -> None:
        """Note whether `group` is full, after a change to its entries."""
        if not self._delay:
            return
        group.full = self._complete(group) or (
            bool(self._preferred) and self._prefix(group, overdue=False) > 0
        )
        if not group.full:
            return
        heappush(self._full, (group.rank, next(self._tickets), group))
        if len(self._full) > 2 * len(self._groups) + _SLACK:
            groups = (group for group in self._groups.values() if group.full)
            self._full = [(group.rank, next(self._tickets), group) for group in groups]
            heapify(self._full)

    def _first_full(self) -> _Group[T] | None:
        while self._full:
            rank, _, group = self._full[0]
            if group.full and group.rank == rank:
                return group
            heappop(self._full)
        return None

    def _choose(self, now: int) -> tuple[_Group[T], bool] | None:
        """The group whose turn it is, and whether it has waited its whole delay.

        The oldest entry of all is the first of its group, so one look at each line will do.
        """
        punctual, late = _oldest(self._line.punctual), _oldest(self._line.late)
        if punctual and punctual.entry.at + self._delay <= now:
            return punctual.group, self._delay > 0
        if group := self._first_full():
            return group, False
        if late and late.entry.at + self._delay <= now:
            return late.group, self._delay > 0
        return None

    def _prefix(self, group: _Group[T], overdue: bool) -> int:
        """How many entries of `group` run now; 0 while it should wait."""
        if not self._policy.merge:
            return 1
        limit = self._policy.max_rows if overdue else self._goal
        rows = length = preferred = 0
        for place in group:
            rows += place.entry.rows
            if length and rows > limit:
                break
            length += 1
            if rows in self._preferred:
                preferred = length
        if overdue:
            return length
        return preferred or (length if group.rows >= self._goal or not self._delay else 0)

    def _wake_at(self) -> int | None:
        oldest = _oldest(self._line.punctual), _oldest(self._line.late)
        group = self._first_full()
        return _earliest(
            self.expires_at,
            group.rank[1] if group else None,
            *(place.entry.at + self._delay for place in oldest if place),
        )


def _oldest(places: OrderedDict[T, _Place[T]]) -> _Place[T] | None:
    return next(iter(places.values()), None)


def _earliest(*times: int | None) -> int | None:
    known = [time for time in times if time is not None]
    return min(known) if known else None
