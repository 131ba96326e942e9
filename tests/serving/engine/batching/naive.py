"""The queue's rules once more, as plainly as they can be said: lists, sorted and searched."""

from collections.abc import Sequence
from itertools import accumulate

from serving.engine.batching.queue import Entry
from serving.types import BatchPolicy


def runs_now(policy: BatchPolicy, entries: Sequence[Entry[int]], now: int) -> int:
    """How many of one key's `entries`, in order of arrival, run now; 0 if they should wait."""
    if not policy.merge:
        return 1
    sums = list(accumulate(entry.rows for entry in entries))
    if policy.max_delay and now - min(entry.at for entry in entries) >= policy.max_delay:
        return _within(sums, policy.max_rows)
    goal = max(policy.preferred, default=policy.max_rows)
    preferred = [length for length, rows in enumerate(sums, 1) if rows in policy.preferred]
    if preferred:
        return max(preferred)
    return _within(sums, goal) if sums[-1] >= goal or not policy.max_delay else 0


def _within(sums: Sequence[int], limit: int) -> int:
    return max(1, sum(rows <= limit for rows in sums))


def times_out_at(policy: BatchPolicy, entry: Entry[int]) -> int | None:
    wishes = [policy.timeout]
    if policy.allow_timeout_override:
        wishes.append(entry.queue_timeout)
    return min((entry.at + wish for wish in wishes if wish), default=None)


class NaiveQueue:
    """What BatchQueue is compared with, for policies that reject what timed out."""

    def __init__(self, policy: BatchPolicy) -> None:
        self.policy = policy
        self.entries: list[Entry[int]] = []

    def groups(self) -> dict[object, list[Entry[int]]]:
        groups: dict[object, list[Entry[int]]] = {}
        for entry in self.entries:
            groups.setdefault(entry.key if self.policy.merge else None, []).append(entry)
        return groups

    def expired(self, now: int) -> set[int]:
        times = {e.item: (e.deadline, times_out_at(self.policy, e)) for e in self.entries}
        return {
            item for item, both in times.items() if any(t is not None and t <= now for t in both)
        }

    def batch(self, now: int) -> list[int]:
        """The items of the batch that is due; groups are in the order of their oldest entry."""
        for entries in self.groups().values():
            if length := runs_now(self.policy, entries, now):
                return [entry.item for entry in entries[:length]]
        return []

    def remove(self, items: set[int]) -> None:
        self.entries = [entry for entry in self.entries if entry.item not in items]
