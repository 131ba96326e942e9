"""Which of an instance's sequences run together: the two strategies of sequence batching.

They know slots only: one that is offered has a request that may run now.
"""

from collections.abc import Hashable
from dataclasses import replace
from typing import Protocol

from serving.engine.batching.entries import Entry
from serving.engine.batching.queue import BatchQueue
from serving.types import BatchPolicy, QueuePolicy, SequencePolicy


class Strategy(Protocol):
    """The slots of one instance."""

    def offer(self, slot: int, key: Hashable, at: int, now: int) -> None:
        """In `slot` a request may run that came `at`; those of equal keys may run together."""

    def withdraw(self, slot: int) -> None:
        """In `slot` nothing may run any more, if it could."""

    def take(self, now: int) -> tuple[list[int], int | None]:
        """The slots whose requests run now, in the order of their rows; and when to look again."""

    def flush(self) -> None:
        """From now on, nothing waits for company."""


class Direct:
    """Every sequence has the row of its slot in each batch, whoever else has a request.

    The oldest request says which key runs. Where the policy has a delay and a utilization, it
    waits until that share of the slots has a request, or it has waited its delay.
    """

    def __init__(self, policy: SequencePolicy) -> None:
        self._delay = policy.max_delay if policy.utilization else 0
        self._enough = policy.utilization * policy.slots
        self._offers: dict[int, tuple[int, Hashable]] = {}

    def offer(self, slot: int, key: Hashable, at: int, now: int) -> None:
        """See `Strategy`."""
        self._offers[slot] = at, key

    def withdraw(self, slot: int) -> None:
        """See `Strategy`."""
        self._offers.pop(slot, None)

    def take(self, now: int) -> tuple[list[int], int | None]:
        """See `Strategy`."""
        if not self._offers:
            return [], None
        at, key = min(self._offers.values(), key=lambda offer: offer[0])
        if len(self._offers) < self._enough and now < at + self._delay:
            return [], at + self._delay
        slots = sorted(slot for slot, offer in self._offers.items() if offer[1] == key)
        for slot in slots:
            del self._offers[slot]
        return slots, min((at for at, _ in self._offers.values()), default=None)

    def flush(self) -> None:
        """See `Strategy`."""
        self._delay = 0


class Oldest:
    """Sequences have no row of their own: whichever has waited longest runs first.

    So a batch is merged as one of requests that have nothing to do with each other.
    """

    def __init__(self, policy: BatchPolicy, slots: int) -> None:
        # A slot never offers more than one request, so that the queue is large enough.
        self._queue: BatchQueue[int] = BatchQueue(replace(policy, queue=QueuePolicy(slots)))

    def offer(self, slot: int, key: Hashable, at: int, now: int) -> None:
        """See `Strategy`; it waits for company from now on."""
        self._queue.push(Entry(slot, 1, key, now))

    def withdraw(self, slot: int) -> None:
        """See `Strategy`."""
        self._queue.discard(slot)

    def take(self, now: int) -> tuple[list[int], int | None]:
        """See `Strategy`."""
        entries, wake_at = self._queue.take(now)
        return [entry.item for entry in entries], wake_at

    def flush(self) -> None:
        """See `Strategy`."""
        self._queue.flush()
