"""Which requests run together, and when: a queue for requests that have nothing to do with others.

Entries of equal key may run in one batch, whatever their levels. Inside a key the entries of a
higher level (a lower number) go first. At one level the order of arrival holds, but those past
their queue timeout stand behind the others, in the order in which they passed it. A batch is a
prefix of that order, and no entry is split.

The entries of a key are ready

- when one of them has waited `max_delay`, or when its answer would come too late if the batch did
  not start: the longest prefix of at most `max_rows` rows runs
- when a prefix has exactly a preferred size: the largest such prefix runs
- when waiting gains nothing, since the largest preferred size (`max_rows` if there is none) is
  reached or the next entry would exceed it: the longest prefix within it runs

With no `max_delay` they are always ready, by the second rule or else the third. What makes a key
ready is the entry that has waited, the one whose answer is due first, or else its first entry: the
key goes first for which that entry is of the highest level, and at that level the oldest. So no key
starves its equals.
"""

from bisect import insort
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import chain, islice
from typing import Generic, TypeAlias, TypeVar

from serving.engine.batching.alarms import SLACK, Alarms
from serving.engine.batching.entries import Entry, Refusal, full, too_late
from serving.engine.batching.prefix import prefix
from serving.engine.batching.urgency import Lead, Urgency, no_lead
from serving.types import BatchPolicy, QueuePolicy, TimeoutAction

T = TypeVar("T", bound=Hashable)

_Rank: TypeAlias = tuple[int, int, int]


@dataclass(slots=True, eq=False)
class _Place(Generic[T]):
    """Where an entry waits, and `since` when.

    `alarm` is the ticket of its alarm, `due` that of when its answer is due, if it has them.

    Each level has two lanes, with the numbers 2n and 2n + 1: the late entries, which are past
    their queue timeout, wait in the second.
    """

    entry: Entry[T]
    group: "_Group[T]"
    level: int
    lane: int
    since: int
    alarm: int | None = None
    due: int | None = None

    @property
    def rank(self) -> _Rank:
        """Whose turn comes before whose; the lowest first."""
        return self.lane, self.since, self.entry.at


@dataclass(slots=True, eq=False)
class _Line(Generic[T]):
    """Entries lane by lane, in each as they came into it; `order` holds the lanes in use."""

    lanes: dict[int, OrderedDict[T, _Place[T]]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    rows: int = 0

    def __bool__(self) -> bool:
        return bool(self.order)

    def __iter__(self) -> Iterator[_Place[T]]:
        return chain.from_iterable(self.lanes[lane].values() for lane in self.order)

    def heads(self) -> Iterator[_Place[T]]:
        """The first of each lane."""
        return (next(iter(self.lanes[lane].values())) for lane in self.order)

    def add(self, place: _Place[T]) -> None:
        lane = self.lanes.get(place.lane)
        if lane is None:
            lane = self.lanes[place.lane] = OrderedDict()
            insort(self.order, place.lane)
        lane[place.entry.item] = place
        self.rows += place.entry.rows

    def remove(self, place: _Place[T]) -> None:
        lane = self.lanes[place.lane]
        del lane[place.entry.item]
        if not lane:
            del self.lanes[place.lane]
            self.order.remove(place.lane)
        self.rows -= place.entry.rows


@dataclass(slots=True, eq=False)
class _Group(_Line[T]):
    """The line of one key; `full` if it is ready before any of its entries has waited a delay."""

    key: Hashable = None
    full: bool = False

    @property
    def rank(self) -> _Rank:
        """Where it stands among the full groups; the lowest goes first."""
        return next(iter(self)).rank


class BatchQueue(Generic[T]):
    """The requests that wait for one model version; every operation is O(log n) per entry.

    `lead` is how long before its answers are due a batch of so many rows has to start.
    """

    def __init__(self, policy: BatchPolicy, lead: Lead = no_lead) -> None:
        self._policy = policy
        self._delay = policy.max_delay if policy.merge else 0
        self._preferred = policy.reachable
        self._goal = policy.goal
        self._places: dict[T, _Place[T]] = {}
        self._line: _Line[T] = _Line()
        self._batches = 0
        # Of all lanes but the first, which is the only one that most policies have.
        self._lane_rows: Counter[int] = Counter()
        self._groups: dict[Hashable, _Group[T]] = {}
        # Full groups by rank, cleaned lazily.
        self._full: list[tuple[_Rank, int, _Group[T]]] = []
        self._ticket = 0
        self._alarms: Alarms[_Place[T]] = Alarms()
        # Asked only where batches wait for company at all.
        self._urgency: Urgency[_Group[T], _Place[T]] = Urgency(lead)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._line.rows

    @property
    def batches(self) -> int:
        """Batches that what waits will make at least."""
        return self._batches

    def line_to(self, entry: Entry[T]) -> tuple[int, int, int]:
        """The rows and batches to run until `entry` has: those that it does not go before."""
        group = self._groups.get(entry.key if self._policy.merge else None)
        rows, batches = self.rows + entry.rows, self._batches + self._added(group, entry.rows)
        level = self._policy.level(entry.priority)
        behind = (count for lane, count in self._lane_rows.items() if lane > 2 * level)
        ahead = rows - sum(behind)
        # Batches may mix levels; so many of all are of those ahead.
        return ahead, -(-batches * ahead // (rows or 1)), level

    @property
    def expires_at(self) -> int | None:
        """When `expire` will have something to do."""
        return self._alarms.next_at

    def push(self, entry: Entry[T]) -> None:
        """Let `entry` wait; Overloaded if `max_queue` requests of its level do already."""
        whole = self._policy
        level = whole.level(entry.priority)
        policy = whole.queue_at(level)
        limit = policy.max_queue
        if self._waiting_at(level) >= limit:
            raise full(limit)
        if entry.rows > whole.max_rows:
            raise ValueError(f"{entry.rows} rows do not fit a batch of {whole.max_rows}")
        key = entry.key if whole.merge else None
        group = self._groups.get(key) or _Group(key=key)
        place = _Place(entry, group, level, 2 * level, entry.at)
        self._enter(place)
        self._set_alarm(place, _earliest(entry.deadline, _late_at(entry, policy)))
        self._urge(group)
        # Behind all others, a newcomer changes no shorter prefix.
        is_last = group.order[-1] == place.lane
        if not is_last or (not group.full and self._complete(group)):
            self._judge(group)

    def discard(self, item: T) -> bool:
        """Forget `item`; False if it does not wait here (any more)."""
        place = self._places.get(item)
        if place is None:
            return False
        self._leave(place)
        self._judge(place.group)
        return True

    def expire(self, now: int) -> list[Refusal[T]]:
        """Remove the entries whose deadline or queue timeout has passed; call it before `take`.

        Where the policy delays what timed out, such an entry stays, behind all punctual ones of
        its level, until its deadline.
        """
        expired: list[Refusal[T]] = []
        while (alarm := self._alarms.due(now)) is not None:
            when, place = alarm
            deadline = place.entry.deadline
            action = self._policy.queue_at(place.level).timeout_action
            self._leave(place)
            if action is TimeoutAction.REJECT or (deadline is not None and deadline <= now):
                expired.append(Refusal(place.entry, too_late()))
            else:
                place.lane, place.since = place.lane + 1, when
                self._enter(place)
                self._set_alarm(place, deadline)
            self._judge(place.group)
        return expired

    def take(self, now: int, instance: int = 0) -> tuple[list[Entry[T]], int | None]:
        """Remove and return the next batch; to all instances the queue gives alike."""
        choice = self._choose(now)
        if choice is None:
            return [], self._wake_at()
        group, overdue = choice
        places = list(islice(group, self._prefix(group, overdue)))
        for place in places:
            self._leave(place)
        self._judge(group)
        return [place.entry for place in places], self._wake_at()

    @property
    def has_sequences(self) -> bool:
        """Never: no request has to do with another."""
        return False

    def stop_sequences(self) -> None:
        """There are none."""

    def flush(self) -> None:
        """From now on, nothing waits for company."""
        self._delay = 0
        self._full.clear()

    def _waiting_at(self, level: int) -> int:
        if not self._policy.priority_levels:
            return len(self)
        lanes = self._line.lanes
        return sum(len(lanes.get(lane, ())) for lane in (2 * level, 2 * level + 1))

    def _enter(self, place: _Place[T]) -> None:
        if not place.group:
            self._groups[place.group.key] = place.group
        self._batches += self._added(place.group, place.entry.rows)
        place.group.add(place)
        self._line.add(place)
        if place.lane:
            self._lane_rows[place.lane] += place.entry.rows
        self._places[place.entry.item] = place
        if self._delay and place.entry.due is not None:
            place.due = self._urgency.add(place.group, place, place.entry.due)

    def _leave(self, place: _Place[T]) -> None:
        del self._places[place.entry.item]
        self._line.remove(place)
        if place.lane:
            self._lane_rows[place.lane] -= place.entry.rows
        place.group.remove(place)
        self._batches -= self._added(place.group, place.entry.rows)
        if not place.group:
            del self._groups[place.group.key]
        if place.alarm is not None:
            self._alarms.cancel(place.alarm)
            place.alarm = None
        if place.due is not None:
            self._urgency.remove(place.group, place.due)
            place.due = None

    def _added(self, group: _Group[T] | None, rows: int) -> int:
        """How many batches more `group` makes with so many rows more."""
        if not self._policy.merge:
            return 1
        before = group.rows if group else 0
        return -(-(before + rows) // self._goal) - -(-before // self._goal)

    def _set_alarm(self, place: _Place[T], when: int | None) -> None:
        if when is not None:
            place.alarm = self._alarms.set(place, when)

    def _complete(self, group: _Group[T]) -> bool:
        """Whether the group as a whole says that it need not wait."""
        return group.rows >= self._goal or group.rows in self._preferred

    def _judge(self, group: _Group[T]) -> None:
        """Note whether `group` is full, after a change to its entries."""
        if not self._delay:
            return
        self._urge(group)
        group.full = self._complete(group) or (
            bool(self._preferred) and self._prefix(group, overdue=False) > 0
        )
        if not group.full:
            return
        heappush(self._full, self._ranked(group))
        if len(self._full) > 2 * len(self._groups) + SLACK:
            groups = (group for group in self._groups.values() if group.full)
            self._full = list(map(self._ranked, groups))
            heapify(self._full)

    def _ranked(self, group: _Group[T]) -> tuple[_Rank, int, _Group[T]]:
        """What stands for a full group in the heap, where no two groups are compared."""
        self._ticket += 1
        return group.rank, self._ticket, group

    def _urge(self, group: _Group[T]) -> None:
        """See when `group` has to run, after a change to its entries."""
        if self._delay:
            self._urgency.judge(group, min(group.rows, self._policy.max_rows))

    def _first_full(self) -> _Group[T] | None:
        while self._full:
            rank, _, group = self._full[0]
            if group.full and group.rank == rank:
                return group
            heappop(self._full)
        return None

    def _choose(self, now: int) -> tuple[_Group[T], bool] | None:
        """The group whose turn it is, and whether one of it must wait no longer."""
        if not self._delay:
            first = next(self._line.heads(), None)
            return None if first is None else (first.group, False)
        waited = (place for place in self._line.heads() if place.entry.at + self._delay <= now)
        place, full = self._foremost(next(waited, None), now), self._first_full()
        if place and (full is None or place.rank <= full.rank):
            return place.group, self._delay > 0
        return (full, False) if full else None

    def _foremost(self, waited: _Place[T] | None, now: int) -> _Place[T] | None:
        """Of an entry that has waited its delay and one that is pressed for time, the foremost."""
        pressing = self._urgency.pressing(now) if self._delay else None
        if pressing is None:
            return waited
        pressed = pressing[1]
        return pressed if waited is None or pressed.rank < waited.rank else waited

    def _prefix(self, group: _Group[T], overdue: bool) -> int:
        """How many entries of `group` run now; 0 while it should wait."""
        if not self._policy.merge:
            return 1
        limit = self._policy.max_rows if overdue else self._goal
        rows = (place.entry.rows for place in group)
        length, preferred = prefix(rows, limit, self._preferred)
        if overdue:
            return length
        return preferred or (length if group.rows >= self._goal or not self._delay else 0)

    def _wake_at(self) -> int | None:
        if not self._places:
            return None
        group = self._first_full()
        return _earliest(
            self.expires_at,
            group.rank[1] if group else None,
            self._urgency.next_at if self._delay else None,
            *(place.entry.at + self._delay for place in self._line.heads()),
        )


def _late_at(entry: Entry[T], policy: QueuePolicy) -> int | None:
    """When `entry` has waited longer than its queue timeout."""
    timeout = policy.timeout
    if entry.queue_timeout and policy.allow_timeout_override:
        timeout = min(timeout, entry.queue_timeout) if timeout else entry.queue_timeout
    return entry.at + timeout if timeout else None


def _earliest(*times: int | None) -> int | None:
    known = [time for time in times if time is not None]
    return min(known) if known else None
