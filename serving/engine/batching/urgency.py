"""Which batch must run by now, for its requests to be answered when their answers are due.

Pure: neither a clock nor a runtime, as the queues are.
"""

from collections.abc import Callable, Hashable
from typing import Generic, TypeAlias, TypeVar

from serving.engine.batching.alarms import Alarms

G = TypeVar("G", bound=Hashable)
M = TypeVar("M", bound=Hashable)

# How many nanoseconds before its answers are due a batch of so many rows has to start.
Lead: TypeAlias = Callable[[int], int]


def no_lead(rows: int) -> int:
    """Answers take no time, as far as is known."""
    return 0


class Urgency(Generic[G, M]):
    """Groups of requests that run together; every operation is O(log n)."""

    def __init__(self, lead: Lead = no_lead) -> None:
        self._lead = lead
        self._dues: dict[G, Alarms[M]] = {}
        self._starts: Alarms[G] = Alarms()
        self._tickets: dict[G, int] = {}

    @property
    def next_at(self) -> int | None:
        """When the first group has to start."""
        return self._starts.next_at

    def add(self, group: G, member: M, due: int) -> int:
        """The ticket of a `member` that has come into `group`, whose answer is wanted at `due`."""
        return self._dues.setdefault(group, Alarms()).set(member, due)

    def remove(self, group: G, ticket: int) -> None:
        """The member of this ticket has left `group`."""
        self._dues[group].cancel(ticket)

    def judge(self, group: G, rows: int) -> None:
        """See when `group` has to start; to be called when it has come to `rows` rows."""
        dues = self._dues.get(group)
        if dues is None:
            return
        ticket = self._tickets.pop(group, None)
        if ticket is not None:
            self._starts.cancel(ticket)
        due = dues.next_at
        if due is None:
            del self._dues[group]
        else:
            self._tickets[group] = self._starts.set(group, due - self._lead(rows))

    def pressing(self, now: int) -> tuple[G, M] | None:
        """The group that had to start first, if one has by now, and who of it is due first."""
        alarm = self._starts.due(now)
        if alarm is None:
            return None
        group = alarm[1]
        member = self._dues[group].first
        assert member is not None, "a group without members has no start"
        return group, member
