"""Whoever comes, leaves, fails or is too late, and in whichever order the threads run.

Nothing here depends on what the threads come to, only that it holds for all of it.
"""

import asyncio
import gc
import random
import threading
import time
import weakref
from collections import Counter
from typing import Any

import pytest

from serving.engine.batching.arrivals import ArrivalQueue
from serving.engine.batching.batch import Batch, BatchReport, Executed
from serving.engine.batching.batcher import Batcher
from serving.errors import Code, Internal, ServingError
from tests.serving.engine.batching.driving import MS
from tests.serving.engine.batching.policies import policy

REQUESTS = 120
# As much as batches last, so that at times one has ended before it is stopped, or hardly begun.
_LONGEST = 0.0006


class Asked:
    """A request, whether somebody still waits for it, and what became of it."""

    def __init__(self, number: int, key: str) -> None:
        self.number = number
        self.key = key
        self.is_wanted = True


class Instance:
    """Runs a batch for a moment, fails at times, and takes note of what must not be."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.ran: list[list[int]] = []
        self.keys: list[set[str]] = []
        self.wrongs: list[str] = []
        self._running: list[Asked] = []
        self._is_stopped = threading.Event()

    def __call__(self, batch: "Batch[Asked, Instance]") -> Executed[int]:
        if self._running:
            self.wrongs.append("two batches at a time")
        self._is_stopped.clear()  # The batch before this one, as a session has it.
        self.ran.append([item.number for item in batch.items])
        self.keys.append({item.key for item in batch.items})
        began = time.monotonic_ns()
        self._running = list(batch.items)
        try:
            if self._is_stopped.wait(self.chance.random() * _LONGEST):
                raise Internal("stopped")
            if self.chance.random() < 0.1:
                raise Internal("failed")
        finally:
            self._running = []
        results = [item.number + 1000 for item in batch.items]
        return Executed(results, 0, time.monotonic_ns() - began, 0)

    def stop(self) -> None:
        if any(item.is_wanted for item in self._running):
            self.wrongs.append("stopped what somebody waits for")
        self._is_stopped.set()


class Crowd:
    """Asks a batcher at random, and leaves at random."""

    def __init__(self, seed: int, **rest: Any) -> None:
        self.chance = random.Random(seed)
        self.instance = Instance(random.Random(seed + 1))
        self.reports: list[BatchReport] = []
        self.drops: Counter[Code] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.answered: list[int] = []
        self.told: set[str] = set()
        self.half_have_come = asyncio.Event()
        self.asked: weakref.WeakValueDictionary[int, Asked] = weakref.WeakValueDictionary()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        queue: ArrivalQueue[Any] = ArrivalQueue(policy(max_rows=4, max_queue=60))
        self.batcher: Batcher[Asked, int, Instance] = Batcher(
            queue,
            self.instance,
            [self.instance],
            is_full=queue.is_full,
            stop=Instance.stop,
            on_batch=self.reports.append,
            on_drop=lambda reason: self.drops.update([reason]),
            **rest,
        )

    async def come(self) -> None:
        """All requests, with some turns of the loop between them, or time to be answered."""
        for number in range(REQUESTS):
            self.tasks[number] = asyncio.create_task(self._ask(number))
            if number == REQUESTS // 2:
                self.half_have_come.set()
            while self.chance.random() < 0.4:
                await asyncio.sleep(self.chance.choice([0, 0, 0, 0.0003]))
                self._have_some_leave()

    async def stay(self) -> None:
        """Until every request has an outcome."""
        async with asyncio.timeout(30):
            await asyncio.gather(*self.tasks.values())

    def _have_some_leave(self) -> None:
        some = self.chance.sample(sorted(self.tasks), min(len(self.tasks), 3))
        # At times all who share a batch, as those of one connection.
        if self.chance.random() < 0.3:
            some = [number for first in some for number in range(first, first + 6)]
        elif self.chance.random() < 0.7:
            some = []
        for number in some:
            if number in self.asked and number in self.tasks:
                self.asked[number].is_wanted = False
                self.tasks[number].cancel()

    async def _ask(self, number: int) -> None:
        key = self.chance.choice("aaaab")
        patience = self.chance.choice([None, None, None, 2 * MS, 30 * MS])
        deadline = None if patience is None else time.monotonic_ns() + patience
        self.asked[number] = item = Asked(number, key)
        rows = self.chance.choice([1, 1, 1, 2, 4])
        try:
            result, timing = await self.batcher.submit(item, rows=rows, key=key, deadline=deadline)
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
        except ServingError as error:
            self.outcomes[error.code.name] += 1
            self.told.add(error.message)
        else:
            assert result == number + 1000
            assert timing.queue >= timing.company >= 0
            self.outcomes["answered"] += 1
            self.answered.append(number)
        finally:
            del item


def check(crowd: Crowd) -> None:
    """What holds once all is over."""
    ran, reports, drops, outcomes = (
        crowd.instance.ran,
        crowd.reports,
        crowd.drops,
        crowd.outcomes,
    )
    assert crowd.instance.wrongs == []
    assert "stopped" not in crowd.told
    assert outcomes.total() == REQUESTS
    in_batches = [number for batch in ran for number in batch]
    assert len(in_batches) == len(set(in_batches))
    # The oldest goes next, with those of its key as they came.
    assert [batch[0] for batch in ran] == sorted(batch[0] for batch in ran)
    assert all(batch == sorted(batch) for batch in ran)
    assert all(len(keys) == 1 for keys in crowd.instance.keys)
    assert len(reports) == len(ran)
    # Who leaves when the answer is there already is counted as answered.
    for code in (Code.OVERLOADED, Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE):
        assert outcomes[code.name] <= drops[code] <= outcomes[code.name] + outcomes["cancelled"]
    assert drops[Code.CANCELLED] <= outcomes["cancelled"]
    assert (crowd.batcher.waiting, crowd.batcher.running, crowd.batcher.wait) == (0, 0, 0)
    crowd.tasks.clear()
    reports.clear()  # With the tracebacks of failures.
    gc.collect()
    assert not crowd.asked


@pytest.mark.parametrize("seed", range(12))
async def test_each_is_answered_once_or_told_why_not(seed: int) -> None:
    crowd = Crowd(seed)
    await crowd.come()
    await crowd.stay()
    await crowd.batcher.close()
    check(crowd)


@pytest.mark.parametrize("seed", range(4))
async def test_so_it_is_where_the_batcher_closes_meanwhile(seed: int) -> None:
    crowd = Crowd(seed)
    coming = asyncio.create_task(crowd.come())
    await crowd.half_have_come.wait()
    await crowd.batcher.close()
    await coming
    await crowd.stay()
    assert crowd.outcomes[Code.UNAVAILABLE.name]
    check(crowd)


@pytest.mark.parametrize("seed", range(4))
async def test_answers_are_in_order_where_that_is_asked_for(seed: int) -> None:
    crowd = Crowd(seed, preserve_ordering=True)
    await crowd.come()
    await crowd.stay()
    await crowd.batcher.close()
    check(crowd)
    assert crowd.answered == sorted(crowd.answered)
