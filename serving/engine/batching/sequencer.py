"""Which sequences have a slot, and which requests of theirs run together: a queue for sequences.

A sequence begins with a START and ends with an END. It gets a slot of an instance and keeps it
until it ends, so that the instance can hold its state; while all slots are taken it waits in the
backlog, in order of arrival. Its requests run one after the other, in order of arrival.

A request that leaves without having run, as its caller went away or its time was up, leaves a gap
in its sequence: those behind it are refused, up to the next START, and the sequence has ended. So
has one that had nothing to do for `max_idle`. A START for a sequence that has not ended begins it
anew in the same slot, behind what still waits.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Generic, TypeVar

from serving.engine.batching.alarms import Alarms
from serving.engine.batching.entries import Entry, Refusal, SequenceId, Step, full, too_late
from serving.engine.batching.strategies import Direct, Oldest, Strategy
from serving.engine.batching.urgency import Lead, no_lead
from serving.errors import (
    Cancelled,
    InvalidArgument,
    ServingError,
    Unavailable,
)
from serving.types import SequencePolicy

T = TypeVar("T", bound=Hashable)


@dataclass(slots=True, eq=False)
class _Place(Generic[T]):
    """Where an entry waits; `alarm` is the ticket of its deadline's, if it has one."""

    entry: Entry[T]
    step: Step
    sequence: "_Sequence[T]"
    alarm: int | None = None


@dataclass(slots=True, eq=False)
class _Sequence(Generic[T]):
    """A sequence that is open for further requests, or still has some that wait or run.

    `seat` is the instance and the slot that it has, None in the backlog. `alarm` is the ticket of
    what ends it: in a seat the lack of requests, in the backlog the first `timeout` of one.
    """

    id: SequenceId
    line: deque[_Place[T]] = field(default_factory=deque)
    seat: tuple[int, int] | None = None
    is_open: bool = True
    is_running: bool = False
    alarm: int | None = None
    timeout: int | None = None


class Sequencer(Generic[T]):
    """The requests that wait for the instances of a version of `model` that takes sequences.

    Every operation is O(log n) per entry, but for what a single sequence has waiting. `lead` is how
    long before its answers are due a batch of so many rows has to start.
    """

    def __init__(
        self, policy: SequencePolicy, instances: int, model: str, lead: Lead = no_lead
    ) -> None:
        self._policy = policy
        self._model = model
        self._strategies = [_strategy(policy, lead) for _ in range(instances)]
        self._seated: dict[tuple[int, int], _Sequence[T]] = {}
        # How many seats were ever taken, and which of these are free: a configuration may name more
        # slots than could be held in memory.
        self._taken = 0
        self._free: list[tuple[int, int]] = []
        self._backlog: dict[_Sequence[T], None] = {}
        self._open: dict[SequenceId, _Sequence[T]] = {}
        self._running: list[list[_Sequence[T]]] = [[] for _ in range(instances)]
        self._places: dict[T, _Place[T]] = {}
        self._alarms: Alarms[_Place[T] | _Sequence[T]] = Alarms()
        self._refused: list[Refusal[T]] = []
        self._stopping = self._flushing = False
        self._now = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def rows(self) -> int:
        """Rows that wait, of which each request has one."""
        return len(self)

    @property
    def batches(self) -> int:
        """At least so many: no batch has more rows than an instance has slots."""
        return -(-len(self) // self._policy.slots)

    def line_to(self, entry: Entry[T]) -> tuple[int, int, int]:
        """The rows and batches to run until `entry` has: all that wait, and its own."""
        rows = len(self) + entry.rows
        return rows, -(-rows // self._policy.slots), 0

    @property
    def expires_at(self) -> int | None:
        """When `expire` will have something to do."""
        return self._now if self._refused else self._alarms.next_at

    def push(self, entry: Entry[T]) -> None:
        """Let `entry` wait behind those of its sequence.

        InvalidArgument if its sequence has not begun, Unavailable if it may not begin any more,
        Overloaded if `max_queue` requests wait.
        """
        if entry.step is None:
            raise ValueError("a request without a step belongs to no sequence")
        self._now = entry.at
        sequence = self._find(entry.step)
        place = _Place(entry, entry.step, sequence)
        sequence.line.append(place)
        self._places[entry.item] = place
        if entry.deadline is not None:
            place.alarm = self._alarms.set(place, entry.deadline)
        if entry.step.end:
            self._close(sequence)
        if sequence.seat is None:
            self._queue_up(sequence, entry)
        elif len(sequence.line) == 1 and not sequence.is_running:
            self._silence(sequence)
            self._offer(sequence)

    def discard(self, item: T) -> bool:
        """Forget `item`, and refuse what depends on it; False if it does not wait here."""
        place = self._places.get(item)
        if place is None:
            return False
        self._break_off(place)
        return True

    def expire(self, now: int) -> list[Refusal[T]]:
        """Remove what is past its time, and what depends on it; end sequences that are idle."""
        self._now = now
        while (alarm := self._alarms.due(now)) is not None:
            who = alarm[1]
            if isinstance(who, _Place):
                self._refused.append(Refusal(who.entry, too_late()))
                self._break_off(who)
            else:
                self._give_up(who)
        refused, self._refused = self._refused, []
        return refused

    def take(self, now: int, instance: int = 0) -> tuple[list[Entry[T]], int | None]:
        """Remove and return the next batch for `instance`, which has finished its last one.

        The entries are in the order of their rows; with slots that are rows, others may be empty.
        """
        self._now = now
        self._finish(instance)
        slots, wake_at = self._strategies[instance].take(now)
        entries = []
        for slot in slots:
            sequence = self._seated[instance, slot]
            place = sequence.line[0]
            self._leave(place)
            place.step.slot = slot
            entries.append(place.entry)
            if sequence.is_open or sequence.line:
                sequence.is_running = True
                self._running[instance].append(sequence)
            else:
                self._release(sequence)
        times = [time for time in (wake_at, self.expires_at) if time is not None]
        return entries, min(times, default=None)

    @property
    def has_sequences(self) -> bool:
        """Whether sequences have begun that have neither ended nor been given up."""
        return bool(self._open)

    def stop_sequences(self) -> None:
        """From now on, a START is refused."""
        self._stopping = True

    def flush(self) -> None:
        """From now on, nothing waits for company, nor a slot for requests that no longer come."""
        self._flushing = True
        for strategy in self._strategies:
            strategy.flush()
        for sequence in list(self._seated.values()):
            if not sequence.line and not sequence.is_running:
                self._give_up(sequence)

    def _find(self, step: Step) -> _Sequence[T]:
        """The sequence of a request that comes; one that has not begun begins."""
        if self._stopping and step.start:
            raise Unavailable(
                "Server is stopping, scheduler for model has stopped accepting new inference "
                "requests"
            )
        sequence = self._open.get(step.sequence)
        if sequence is None and not step.start:
            raise InvalidArgument(
                f"inference request for sequence {step.sequence} to model '{self._model}' must "
                "specify the START flag on the first request of the sequence"
            )
        if len(self) >= self._policy.max_queue:
            raise full(self._policy.max_queue)
        if sequence is None:
            sequence = self._open[step.sequence] = _Sequence(step.sequence)
            self._backlog[sequence] = None
        return sequence

    def _free_seat(self) -> tuple[int, int] | None:
        """Slot by slot, so that sequences spread over the instances."""
        if self._free:
            return heappop(self._free)
        instances = len(self._running)
        if self._taken == self._policy.slots * instances:
            return None
        self._taken += 1
        return divmod(self._taken - 1, instances)

    def _queue_up(self, sequence: _Sequence[T], entry: Entry[T]) -> None:
        """Seat a sequence in the backlog, which has got `entry`, or see how long it may wait."""
        if seat := self._free_seat():
            self._seat(sequence, *reversed(seat))
            return
        if entry.queue_timeout:
            until = entry.at + entry.queue_timeout
            if sequence.timeout is None or until < sequence.timeout:
                self._silence(sequence)
                sequence.timeout = until
                sequence.alarm = self._alarms.set(sequence, until)

    def _seat(self, sequence: _Sequence[T], instance: int, slot: int) -> None:
        del self._backlog[sequence]
        self._silence(sequence)
        sequence.seat = instance, slot
        self._seated[instance, slot] = sequence
        self._offer(sequence)

    def _offer(self, sequence: _Sequence[T]) -> None:
        """Have the first request of a sequence run as soon as its strategy sees fit."""
        if sequence.seat is not None and sequence.line and not sequence.is_running:
            instance, slot = sequence.seat
            self._strategies[instance].offer(slot, sequence.line[0].entry, self._now)

    def _withdraw(self, sequence: _Sequence[T]) -> None:
        if sequence.seat is not None:
            instance, slot = sequence.seat
            self._strategies[instance].withdraw(slot)

    def _finish(self, instance: int) -> None:
        """What `instance` was given last has run."""
        finished, self._running[instance] = self._running[instance], []
        for sequence in finished:
            sequence.is_running = False
            if sequence.line:
                self._offer(sequence)
            elif sequence.is_open and not self._flushing:
                idle_until = self._now + self._policy.max_idle
                sequence.alarm = self._alarms.set(sequence, idle_until)
            else:
                self._give_up(sequence)

    def _break_off(self, place: _Place[T]) -> None:
        """Remove an entry that has not run, and refuse those of its sequence behind it."""
        sequence = place.sequence
        index = sequence.line.index(place)
        behind = list(sequence.line)[index + 1 :]
        goes_on = next((at for at, other in enumerate(behind) if other.step.start), None)
        if index == 0:
            self._withdraw(sequence)
        self._leave(place)
        for other in behind[:goes_on]:
            self._leave(other)
            self._refuse(other, Cancelled(self._gap(sequence)))
        if goes_on is None:
            self._close(sequence)
        if not (sequence.line or sequence.is_running):
            self._give_up(sequence)
        elif index == 0:
            self._offer(sequence)

    def _gap(self, sequence: _Sequence[T]) -> str:
        return (
            f"sequence {sequence.id} of model '{self._model}' has lost an earlier request, which "
            "was cancelled or timed out before it ran: begin it again with the START flag"
        )

    def _give_up(self, sequence: _Sequence[T]) -> None:
        """End a sequence that is not running, and refuse what it has waiting."""
        self._close(sequence)
        for place in list(sequence.line):
            self._leave(place)
            timeout = "timeout of the corresponding sequence has been expired"
            self._refuse(place, Unavailable(timeout))
        if sequence.seat is not None:
            self._release(sequence)
        else:
            self._silence(sequence)
            del self._backlog[sequence]

    def _release(self, sequence: _Sequence[T]) -> None:
        """Give the seat of a sequence that has ended to the next one."""
        self._silence(sequence)
        if sequence.seat is None:
            return
        instance, slot = sequence.seat
        del self._seated[sequence.seat]
        sequence.seat = None
        if self._backlog:
            self._seat(next(iter(self._backlog)), instance, slot)
        else:
            heappush(self._free, (slot, instance))

    def _close(self, sequence: _Sequence[T]) -> None:
        """From now on, no request belongs to the sequence any more."""
        if sequence.is_open:
            sequence.is_open = False
            del self._open[sequence.id]

    def _leave(self, place: _Place[T]) -> None:
        place.sequence.line.remove(place)
        del self._places[place.entry.item]
        if place.alarm is not None:
            self._alarms.cancel(place.alarm)
            place.alarm = None

    def _refuse(self, place: _Place[T], error: ServingError) -> None:
        self._refused.append(Refusal(place.entry, error))

    def _silence(self, sequence: _Sequence[T]) -> None:
        if sequence.alarm is not None:
            self._alarms.cancel(sequence.alarm)
            sequence.alarm = sequence.timeout = None


def _strategy(policy: SequencePolicy, lead: Lead) -> Strategy:
    if policy.merge is None:
        return Direct(policy, lead)
    return Oldest(policy.merge, policy.slots, lead)
