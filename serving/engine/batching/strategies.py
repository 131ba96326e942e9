"""Which of an instance's sequences run together: the two strategies of sequence batching.

They know slots only: one that is offered has a request that may run now.
"""

from dataclasses import replace
from typing import Any, Protocol

from serving.engine.batching.entries import Entry
from serving.engine.batching.queue import BatchQueue
from serving.engine.batching.urgency import Lead, no_lead
from serving.types import BatchPolicy, QueuePolicy, SequencePolicy


class Strategy(Protocol):
    """The slots of one instance."""

    def offer(self, slot: int, entry: Entry[Any], now: int) -> None:
        """In `slot` a request may run; those of equal keys may run together."""

    def withdraw(self, slot: int) -> None:
        """In `slot` nothing may run any more, if it could."""

    def take(self, now: int) -> tuple[list[int], int | None]:
        """The slots whose requests run now, in the order of their rows; and when to look again."""

    def flush(self) -> None:
        """From now on, nothing waits for company."""


class Direct:
    """Every sequence has the row of its slot in each batch, whoever else has a request.

    The oldest request says which key runs. Where the policy has a delay and a utilization, it
    waits until that share of the slots has a request, it has waited its delay, or one of its key
    would be answered too late. `lead` is as the queue has it.
    """

    def __init__(self, policy: SequencePolicy, lead: Lead = no_lead) -> None:
        self._delay = policy.max_delay if policy.utilization else 0
        self._enough = policy.utilization * policy.slots
        self._lead = lead
        self._offers: dict[int, Entry[Any]] = {}

    def offer(self, slot: int, entry: Entry[Any], now: int) -> None:
        """See `Strategy`."""
        self._offers[slot] = entry

    def withdraw(self, slot: int) -> None:
        """See `Strategy`."""
        self._offers.pop(slot, None)

    def take(self, now: int) -> tuple[list[int], int | None]:
        """See `Strategy`."""
        if not self._offers:
            return [], None
        oldest = min(self._offers.values(), key=lambda offer: offer.at)
        slots = sorted(slot for slot, offer in self._offers.items() if offer.key == oldest.key)
        if len(self._offers) < self._enough:
            start = self._start(oldest.at + self._delay, slots)
            if now < start:
                return [], start
        for slot in slots:
            del self._offers[slot]
        return slots, min((offer.at for offer in self._offers.values()), default=None)

    def _start(self, latest: int, slots: list[int]) -> int:
        """When these slots have to run: `latest`, or sooner where an answer is due before."""
        dues = [offer.due for slot in slots if (offer := self._offers[slot]).due is not None]
        if not self._delay or not dues:
            return latest
        # Their rows are those of the slots, of which others may be empty.
        return min(latest, min(dues) - self._lead(slots[-1] + 1))

    def flush(self) -> None:
        """See `Strategy`."""
        self._delay = 0


class Oldest:
    """Sequences have no row of their own: whichever has waited longest runs first.

    So a batch is merged as one of requests that have nothing to do with each other.
    """

    def __init__(self, policy: BatchPolicy, slots: int, lead: Lead = no_lead) -> None:
        # A slot never offers more than one request, so that the queue is large enough.
        self._queue: BatchQueue[int] = BatchQueue(replace(policy, queue=QueuePolicy(slots)), lead)

    def offer(self, slot: int, entry: Entry[Any], now: int) -> None:
        """See `Strategy`; it waits for company from now on."""
        self._queue.push(Entry(slot, 1, entry.key, now, due=entry.due))

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
