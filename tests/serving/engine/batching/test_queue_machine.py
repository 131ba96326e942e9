"""The batching rules all together, held against a naive model of them."""

import copy
import dataclasses
from collections import Counter
from collections.abc import Hashable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from serving.engine.batching.arrivals import ArrivalQueue, suits
from serving.engine.batching.entries import Entry
from serving.engine.batching.queue import BatchQueue
from serving.errors import Overloaded
from serving.types import BatchPolicy, QueuePolicy, TimeoutAction
from tests.serving.engine.batching.naive import NaiveQueue

QUEUES = st.builds(
    QueuePolicy,
    max_queue=st.integers(3, 12),
    timeout=st.sampled_from([0, 3, 10]),
    timeout_action=st.sampled_from(TimeoutAction),
    allow_timeout_override=st.booleans(),
)
POLICIES = st.builds(
    BatchPolicy,
    max_rows=st.integers(4, 8),
    queue=QUEUES,
    merge=st.sampled_from([True, True, True, False]),
    preferred=st.sets(st.integers(1, 4), max_size=2).map(lambda sizes: tuple(sorted(sizes))),
    max_delay=st.sampled_from([0, 1, 5, 20, 200]),
    priority_levels=st.sampled_from([0, 0, 3]),
    default_level=st.just(2),
    level_queues=st.dictionaries(st.integers(1, 3), QUEUES, max_size=2),
)


PLAIN_POLICIES = st.builds(
    BatchPolicy,
    max_rows=st.integers(4, 8),
    queue=st.builds(QueuePolicy, max_queue=st.integers(3, 12)),
    preferred=st.sets(st.integers(1, 4), max_size=2).map(lambda sizes: tuple(sorted(sizes))),
)


class QueueMachine(RuleBasedStateMachine):
    """Drives a queue as the batcher does, side by side with the naive one."""

    queue: BatchQueue[int] | ArrivalQueue[int]
    naive: NaiveQueue

    @initialize(policy=POLICIES)
    def begin(self, policy: BatchPolicy) -> None:
        if not policy.priority_levels:
            policy = dataclasses.replace(policy, default_level=0, level_queues={})
        self.policy = policy
        self.queue = self.made(policy)
        self.naive = NaiveQueue(policy)
        self.now = 0
        self.pushed = 0
        self.left: list[int] = []

    def made(self, policy: BatchPolicy) -> BatchQueue[int] | ArrivalQueue[int]:
        return BatchQueue(policy)

    @rule(
        rows=st.integers(0, 4),
        key=st.sampled_from("abc"),
        priority=st.integers(0, 4),
        patience=st.none() | st.integers(0, 15),
        queue_timeout=st.sampled_from([0, 0, 2, 6]),
        wait=st.integers(1, 3),
    )
    def push(
        self,
        rows: int,
        key: str,
        priority: int,
        patience: int | None,
        queue_timeout: int,
        wait: int,
    ) -> None:
        self.now += wait
        deadline = None if patience is None else self.now + patience
        level = self.policy.level(priority)
        entry = Entry(self.pushed, rows, key, self.now, deadline, queue_timeout, priority)
        if self.naive.waiting_at(level) == self.policy.queue_at(level).max_queue:
            with pytest.raises(Overloaded):
                self.queue.push(entry)
            return
        self.queue.push(entry)
        self.naive.entries.append(entry)
        self.pushed += 1

    @rule(wait=st.integers(1, 25))
    def wait(self, wait: int) -> None:
        self.now += wait

    @precondition(lambda self: self.pushed)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(0, self.pushed - 1))
        waits = any(entry.item == item for entry in self.naive.entries)
        assert self.queue.discard(item) == waits
        if waits:
            self.leave([item])

    @precondition(lambda self: self.pushed > 12)
    @rule()
    def flush(self) -> None:
        self.queue.flush()
        self.policy = self.naive.policy = dataclasses.replace(self.policy, max_delay=0)

    @rule()
    def look(self) -> None:
        """One turn of the batcher with a slot to give away."""
        expired = [entry.item for entry, _ in self.queue.expire(self.now)]
        assert set(expired) == self.naive.expired(self.now)
        self.leave(expired)
        self.check_lines()
        waiting = {entry.item: entry for entry in self.naive.entries}
        entries, wake_at = self.queue.take(self.now)
        assert [entry.item for entry in entries] == self.naive.batch(self.now)
        assert all(waiting[entry.item] is entry for entry in entries)
        self.check_batch(entries)
        self.leave([entry.item for entry in entries])
        self.check_wake(bool(entries), wake_at)

    def check_lines(self) -> None:
        """Of what waits, a newcomer finds before it what it does not go ahead of."""
        for priority in range(5):
            newcomer = Entry(-1, 2, "a", self.now, priority=priority)
            lane = self.naive.lane(newcomer, self.now)
            before = [e for e in self.naive.entries if self.naive.lane(e, self.now) <= lane]
            rows, batches, level = self.queue.line_to(newcomer)
            assert level == self.policy.level(priority)
            assert rows == 2 + sum(entry.rows for entry in before)
            assert 1 <= batches <= self.queue.batches + newcomer.rows

    def check_batch(self, batch: list[Entry[int]]) -> None:
        """One key, no more rows than allowed, and nobody of that key overtaken by its equals."""
        assert sum(entry.rows for entry in batch) <= self.policy.max_rows
        assert len(batch) <= 1 or self.policy.merge
        assert len({entry.key for entry in batch}) <= 1
        if batch and self.policy.merge:
            lowest = max(self.policy.level(entry.priority) for entry in batch)
            stay = [e for e in self.naive.entries if e not in batch and e.key == batch[0].key]
            assert all(self.policy.level(entry.priority) >= lowest for entry in stay)

    def check_wake(self, served: bool, wake_at: int | None) -> None:
        """`wake_at` is the first moment at which anything happens if nothing else does."""
        if wake_at is None:
            assert not self.queue
            return
        if served and wake_at <= self.now:
            assert copy.deepcopy(self.queue).take(self.now)[0]
            return
        assert wake_at > self.now
        early = copy.deepcopy(self.queue)
        assert not early.expire(wake_at - 1)
        assert not early.take(wake_at - 1)[0]
        due = copy.deepcopy(self.queue)
        expiry = due.expires_at
        assert due.expire(wake_at) or due.take(wake_at)[0] or due.expires_at != expiry

    def leave(self, items: list[int]) -> None:
        assert not set(items) & set(self.left)
        self.left += items
        self.naive.remove(set(items))

    @invariant()
    def nothing_is_lost(self) -> None:
        entries = self.naive.entries if self.pushed else []
        assert len(self.queue) == len(entries)
        assert self.queue.rows == sum(entry.rows for entry in entries)

    @invariant()
    def the_batches_to_come_are_counted(self) -> None:
        if not self.pushed:
            return
        policy, rows = self.policy, Counter[Hashable]()
        for entry in self.naive.entries:
            rows[entry.key] += entry.rows
        fits = (size for size in policy.preferred if size <= policy.max_rows)
        most = max(fits, default=policy.max_rows)
        expected = sum(-(-each // most) for each in rows.values())
        assert self.queue.batches == (expected if policy.merge else len(self.naive.entries))

    def teardown(self) -> None:
        """Once everybody stops coming, everybody is served or expires."""
        if not hasattr(self, "queue"):
            return
        for _ in range(3 * self.pushed + 1):
            self.look()
            self.now += 200
        assert sorted(self.left) == list(range(self.pushed))


class ArrivalQueueMachine(QueueMachine):
    """The same for the queue of those who neither wait for company nor rank above each other."""

    @initialize(policy=PLAIN_POLICIES)
    def begin(self, policy: BatchPolicy) -> None:
        assert suits(policy)
        super().begin(policy)

    def made(self, policy: BatchPolicy) -> BatchQueue[int] | ArrivalQueue[int]:
        return ArrivalQueue(policy)

    @precondition(lambda self: 0 < len(self.naive.entries) < self.policy.queue.max_queue)
    @rule()
    def come_behind(self) -> None:
        """A full batch is the same whoever comes; another has room for who fills it."""
        assert isinstance(self.queue, ArrivalQueue)
        key = self.naive.entries[0].key
        rows = sum(entry.rows for entry in self.naive.entries if entry.key == key)
        before, after = copy.deepcopy(self.queue), copy.deepcopy(self.queue)
        is_full = self.queue.is_full()
        after.push(Entry(-1, max(1, self.policy.goal - rows), key, self.now))
        grown = len(after.take(self.now)[0]) - len(before.take(self.now)[0])
        assert grown == 0 if is_full else grown > 0


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=150,
    stateful_step_count=40,
)
TestArrivalQueueMachine = ArrivalQueueMachine.TestCase
TestArrivalQueueMachine.settings = settings(
    max_examples=80,
    stateful_step_count=40,
)


@given(policy=POLICIES)
def test_the_queue_by_arrival_refuses_policies_that_ask_for_more(policy: BatchPolicy) -> None:
    assume(not suits(policy))
    with pytest.raises(ValueError, match="arrival"):
        ArrivalQueue(policy)
