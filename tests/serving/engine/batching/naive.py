"""The queue's rules once more, as plainly as they can be said: lists, sorted and searched."""

from collections.abc import Sequence
from itertools import accumulate

from serving.engine.batching.entries import Entry
from serving.types import BatchPolicy, TimeoutAction


def runs_now(policy: BatchPolicy, entries: Sequence[Entry[int]], overdue: bool) -> int:
    """How many of one key's `entries`, in their order, run now; 0 if they should wait."""
    if not policy.merge:
        return 1
    sums = list(accumulate(entry.rows for entry in entries))
    if overdue:
        return _within(sums, policy.max_rows)
    goal = max(policy.preferred, default=policy.max_rows)
    preferred = [length for length, rows in enumerate(sums, 1) if rows in policy.preferred]
    if preferred:
        return max(preferred)
    return _within(sums, goal) if sums[-1] >= goal or not policy.max_delay else 0


def _within(sums: Sequence[int], limit: int) -> int:
    return max(1, sum(rows <= limit for rows in sums))


def times_out_at(policy: BatchPolicy, entry: Entry[int]) -> int | None:
    queue = policy.queue_at(policy.level(entry.priority))
    wishes = [queue.timeout]
    if queue.allow_timeout_override:
        wishes.append(entry.queue_timeout)
    return min((entry.at + wish for wish in wishes if wish), default=None)


class NaiveQueue:
    """What BatchQueue is compared with."""

    def __init__(self, policy: BatchPolicy) -> None:
        self.policy = policy
        self.entries: list[Entry[int]] = []

    def waiting_at(self, level: int) -> int:
        return sum(self.policy.level(entry.priority) == level for entry in self.entries)

    def expired(self, now: int) -> set[int]:
        """Whose deadline has passed, and whose queue timeout where that rejects."""
        return {
            entry.item
            for entry in self.entries
            if (entry.deadline is not None and entry.deadline <= now)
            or (
                self.policy.queue_at(self.policy.level(entry.priority)).timeout_action
                is TimeoutAction.REJECT
                and self.is_late(entry, now)
            )
        }

    def is_late(self, entry: Entry[int], now: int) -> bool:
        at = times_out_at(self.policy, entry)
        return at is not None and at <= now

    def lane(self, entry: Entry[int], now: int) -> tuple[int, bool]:
        return self.policy.level(entry.priority), self.is_late(entry, now)

    def rank(self, entry: Entry[int], now: int) -> tuple[int, bool, int, int]:
        """Level by level, the late ones behind the others by when they became late."""
        late_at = times_out_at(self.policy, entry) if self.is_late(entry, now) else None
        return (*self.lane(entry, now), entry.at if late_at is None else late_at, entry.at)

    def batch(self, now: int) -> list[int]:
        """The items of the batch that is due: of the key that the foremost reason names."""
        entries = sorted(self.entries, key=lambda entry: self.rank(entry, now))
        groups: dict[object, list[Entry[int]]] = {}
        heads: dict[tuple[int, bool], Entry[int]] = {}
        for entry in entries:
            groups.setdefault(self.key(entry), []).append(entry)
            heads.setdefault(self.lane(entry, now), entry)
        delay = self.policy.max_delay if self.policy.merge else 0
        full = [
            (group[0], False) for group in groups.values() if runs_now(self.policy, group, False)
        ]
        waited = [(head, True) for head in heads.values() if delay and now - head.at >= delay]
        if not full and not waited:
            return []
        reason, overdue = min(full + waited, key=lambda r: (self.rank(r[0], now), not r[1]))
        group = groups[self.key(reason)]
        return [entry.item for entry in group[: runs_now(self.policy, group, overdue)]]

    def key(self, entry: Entry[int]) -> object:
        return entry.key if self.policy.merge else None

    def remove(self, items: set[int]) -> None:
        self.entries = [entry for entry in self.entries if entry.item not in items]
