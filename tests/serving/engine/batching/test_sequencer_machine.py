"""The rules of sequences all together."""

import copy
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from serving.engine.batching.entries import Entry, Step
from serving.engine.batching.sequencer import Sequencer
from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    Unavailable,
)
from serving.types import SequencePolicy
from tests.serving.engine.batching.policies import policy


@dataclass
class Request:
    """What the machine knows of a request; `run` counts the STARTs of its sequence so far."""

    entry: Entry[int]
    sequence: int
    run: int

    @property
    def step(self) -> Step:
        assert self.entry.step is not None
        return self.entry.step


POLICIES = st.builds(
    SequencePolicy,
    slots=st.integers(1, 3),
    max_idle=st.sampled_from([4, 12, 40]),
    max_queue=st.integers(4, 12),
    max_delay=st.sampled_from([0, 3, 15]),
    utilization=st.sampled_from([0.0, 0.5, 1.0]),
    merge=st.none()
    | st.builds(
        policy,
        max_rows=st.integers(1, 3),
        merge=st.booleans(),
        max_delay=st.sampled_from([0, 3, 15]),
    ),
)


class SequencerMachine(RuleBasedStateMachine):
    """Drives a sequencer as the batcher does, and watches what comes out of each slot."""

    @initialize(policy=POLICIES, instances=st.integers(1, 2))
    def begin(self, policy: SequencePolicy, instances: int) -> None:
        self.policy = policy
        self.queue: Sequencer[int] = Sequencer(policy, instances, "m")
        self.instances = instances
        self.now = 0
        self.flushed = False
        self.requests: list[Request] = []
        self.waiting: dict[int, Request] = {}
        self.left: list[int] = []
        self.dropped: set[int] = set()
        self.runs: dict[int, int] = dict.fromkeys(range(4), 0)
        # The runs that further requests may belong to, and since when they have nothing to do.
        self.open: dict[int, int | None] = {}
        self.running: dict[int, list[Request]] = {index: [] for index in range(instances)}
        self.history: dict[tuple[int, int], list[Request]] = {}
        self.places: dict[tuple[int, int], tuple[int, int]] = {}

    # After a flush nothing comes any more: the batcher refuses it.
    @precondition(lambda self: not self.flushed)
    @rule(
        sequence=st.integers(0, 3),
        start=st.sampled_from([False, False, True]),
        end=st.sampled_from([False, False, False, True]),
        key=st.sampled_from("xxy"),
        patience=st.none() | st.integers(1, 15),
        timeout=st.sampled_from([0, 0, 6]),
        wait=st.integers(1, 2),
    )
    def push(
        self,
        sequence: int,
        start: bool,
        end: bool,
        key: str,
        patience: int | None,
        timeout: int,
        wait: int,
    ) -> None:
        self.now += wait
        self.expire()  # So that what the machine knows of idle sequences is up to date.
        deadline = None if patience is None else self.now + patience
        step = Step(sequence, start, end)
        item = len(self.requests)
        entry = Entry(item, 1, key, self.now, deadline, timeout, step=step)
        if not start and sequence not in self.open:
            with pytest.raises(InvalidArgument):
                self.queue.push(entry)
            return
        if len(self.waiting) == self.policy.max_queue:
            with pytest.raises(Overloaded):
                self.queue.push(entry)
            return
        self.queue.push(entry)
        self.runs[sequence] += start
        request = Request(entry, sequence, self.runs[sequence])
        self.requests.append(request)
        self.waiting[item] = request
        self.open[sequence] = None
        if end:
            del self.open[sequence]

    @rule(wait=st.integers(1, 20))
    def wait(self, wait: int) -> None:
        self.now += wait

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(0, len(self.requests) - 1))
        assert self.queue.discard(item) == (item in self.waiting)
        if item in self.waiting:
            self.dropped.add(item)
            self.leave(item)
            self.end(self.requests[item])
            self.expire()

    @precondition(lambda self: len(self.requests) > 10 and not self.flushed)
    @rule()
    def flush(self) -> None:
        self.queue.flush()
        self.expire()
        self.flushed = True
        self.open.clear()

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        """One turn of the batcher with an instance that has nothing to do."""
        instance = data.draw(st.integers(0, self.instances - 1))
        self.expire()
        self.turn(instance)

    def turn(self, instance: int) -> bool:
        for request in self.running[instance]:
            is_last_run = self.runs[request.sequence] == request.run
            is_open = is_last_run and self.open.get(request.sequence, 0) is None
            if is_open and not self.behind(request):
                self.open[request.sequence] = self.now
        entries, wake_at = self.queue.take(self.now, instance)
        self.running[instance] = [self.requests[entry.item] for entry in entries]
        self.check_batch(self.running[instance])
        for request in self.running[instance]:
            self.check_slot(instance, request)
            self.leave(request.entry.item)
        if not entries:
            self.check_wake(instance, wake_at)
        return bool(entries)

    def behind(self, request: Request) -> list[Request]:
        """What of the same sequence waits behind a request."""
        item, sequence = request.entry.item, request.sequence
        return [w for w in self.waiting.values() if w.sequence == sequence and w.entry.item > item]

    def check_batch(self, batch: list[Request]) -> None:
        """One request of a sequence at most, all of one key, each with a slot of its own."""
        slots = [request.step.slot for request in batch]
        assert len({request.entry.key for request in batch}) <= 1
        assert len(set(slots)) == len(slots)
        if self.policy.merge is None:
            assert slots == sorted(slots)
        else:
            assert len(batch) <= (self.policy.merge.max_rows if self.policy.merge.merge else 1)

    def check_slot(self, instance: int, request: Request) -> None:
        """Nothing of another sequence comes between, nothing is passed over, and nobody moves."""
        slot = instance, request.step.slot
        assert 0 <= slot[1] < self.policy.slots
        history = self.history.setdefault(slot, [])
        earlier = [
            other
            for other in self.requests[: request.entry.item]
            if (other.sequence, other.run) == (request.sequence, request.run)
        ]
        assert not any(other.entry.item in self.waiting for other in earlier)
        if request.step.start:
            # Whoever had the slot is over, or is the one that begins anew.
            previous = history[-1] if history else None
            assert (
                previous is None
                or not self.goes_on(previous)
                or (previous.sequence == request.sequence)
            )
        else:
            assert history[-1] is earlier[-1]
            assert earlier[-1].entry.item not in self.dropped
        place = self.places.setdefault((request.sequence, request.run), slot)
        assert place == slot
        history.append(request)

    def goes_on(self, request: Request) -> bool:
        """Whether more of the same run waits or may come."""
        run = request.sequence, request.run
        is_open = request.sequence in self.open and self.runs[request.sequence] == request.run
        return is_open or any((w.sequence, w.run) == run for w in self.waiting.values())

    def check_wake(self, instance: int, wake_at: int | None) -> None:
        """`wake_at` is the first moment at which anything happens if nothing else does."""
        if wake_at is None:
            return
        assert wake_at > self.now
        early = copy.deepcopy(self.queue)
        assert not early.expire(wake_at - 1)
        assert not early.take(wake_at - 1, instance)[0]
        due = copy.deepcopy(self.queue)
        expiry = due.expires_at
        assert due.expire(wake_at) or due.take(wake_at, instance)[0] or due.expires_at != expiry

    def expire(self) -> None:
        """Hear who is refused and why, and forget who has nothing to do for too long."""
        refused = {entry.item: error for entry, error in self.queue.expire(self.now)}
        for item, error in refused.items():
            request = self.requests[item]
            if isinstance(error, DeadlineExceeded):
                assert request.entry.deadline is not None
                assert request.entry.deadline <= self.now
                self.dropped.add(item)
            elif isinstance(error, Cancelled):
                assert any(self.has_gap_before(request, gone) for gone in self.dropped | {*refused})
            else:
                assert isinstance(error, Unavailable)
                assert (request.sequence, request.run) not in self.places
            self.dropped.add(item)
            self.leave(item)
            self.end(request)
        for sequence, idle in list(self.open.items()):
            if idle is not None and idle + self.policy.max_idle <= self.now:
                del self.open[sequence]

    def has_gap_before(self, request: Request, gone: int) -> bool:
        other = self.requests[gone]
        same = (other.sequence, other.run) == (request.sequence, request.run)
        return same and gone < request.entry.item

    def end(self, request: Request) -> None:
        """The run of a request that has not run is over."""
        if self.runs[request.sequence] == request.run:
            self.open.pop(request.sequence, None)

    def leave(self, item: int) -> None:
        assert item not in self.left
        self.left.append(item)
        del self.waiting[item]

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == self.queue.rows == len(self.waiting)

    def teardown(self) -> None:
        """Once everybody stops coming, everybody is served or refused."""
        if not hasattr(self, "queue"):
            return
        for _ in range(3 * len(self.requests) + 3):
            self.now += 50
            self.expire()
            for instance in range(self.instances):
                self.turn(instance)
        assert sorted(self.left) == list(range(len(self.requests)))


TestSequencerMachine = SequencerMachine.TestCase
TestSequencerMachine.settings = settings(
    max_examples=150,
    stateful_step_count=40,
)
