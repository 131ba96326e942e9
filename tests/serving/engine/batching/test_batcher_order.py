"""Answers in the order of arrival, where a configuration wants them so."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serving.engine.batching.batch import Batch, BatchReport, Executed
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.queue import BatchQueue
from serving.errors import (
    DeadlineExceeded,
    Internal,
)
from tests.serving.engine.batching.driving import (
    MS,
    Clock,
    IntBatcher,
    turns,
)
from tests.serving.engine.batching.policies import policy


class Gates:
    """Runs each item when the test opens its gate, whatever instance it is on."""

    def __init__(self, items: int) -> None:
        self.gates = [threading.Event() for _ in range(items)]
        self.failures: dict[int, Exception] = {}

    def __call__(self, batch: Batch[int, str]) -> Executed[int]:
        for item in batch.items:
            assert self.gates[item].wait(30)
            if item in self.failures:
                raise self.failures[item]
        return Executed(batch.items)


@asynccontextmanager
async def in_order(gates: Gates, **rest: Any) -> AsyncIterator[IntBatcher]:
    """A batcher of three slots and one request in each batch that preserves the order."""
    slots = ["a", "b", "c"]
    queue: BatchQueue[Any] = BatchQueue(policy(max_rows=1))
    batcher: IntBatcher = Batcher(queue, gates, slots, preserve_ordering=True, **rest)
    try:
        yield batcher
    finally:
        for gate in gates.gates:
            gate.set()
        await batcher.close()


async def answered(batcher: IntBatcher, item: int, done: list[int], **rest: Any) -> None:
    await batcher.submit(item, rows=1, key="k", **rest)
    done.append(item)


async def ran(reports: "asyncio.Queue[BatchReport]", gates: Gates, item: int) -> None:
    gates.gates[item].set()
    await reports.get()
    await turns()


async def test_answers_leave_in_the_order_of_arrival_whichever_instance_was_done_first() -> None:
    gates, done = Gates(3), list[int]()
    reports: asyncio.Queue[BatchReport] = asyncio.Queue()
    async with in_order(gates, on_batch=reports.put_nowait) as batcher:
        tasks = [asyncio.ensure_future(answered(batcher, item, done)) for item in range(3)]
        await turns()
        await ran(reports, gates, 2)
        await ran(reports, gates, 1)
        assert done == []
        await ran(reports, gates, 0)
        assert done == [0, 1, 2]
        await asyncio.gather(*tasks)


async def test_a_failed_or_cancelled_request_holds_up_nobody_behind_it() -> None:
    gates, done = Gates(4), list[int]()
    gates.failures[0] = Internal("broken")
    reports: asyncio.Queue[BatchReport] = asyncio.Queue()
    async with in_order(gates, on_batch=reports.put_nowait) as batcher:
        tasks = [asyncio.ensure_future(answered(batcher, item, done)) for item in range(3)]
        await turns()
        await ran(reports, gates, 2)
        tasks[1].cancel()
        await turns()
        assert done == []
        await ran(reports, gates, 0)
        assert done == [2]
        with pytest.raises(Internal, match="broken"):
            await tasks[0]


async def test_a_request_that_times_out_in_the_queue_holds_up_nobody_behind_it() -> None:
    gates, done, clock = Gates(5), list[int](), Clock()
    reports: asyncio.Queue[BatchReport] = asyncio.Queue()
    async with in_order(gates, on_batch=reports.put_nowait, clock=clock) as batcher:
        running = [asyncio.ensure_future(answered(batcher, item, done)) for item in range(3)]
        await turns()
        late = asyncio.ensure_future(answered(batcher, 3, done, deadline=5 * MS))
        behind = asyncio.ensure_future(answered(batcher, 4, done))
        await turns()
        clock.now = 5 * MS
        for item in range(3):
            await ran(reports, gates, item)
        with pytest.raises(DeadlineExceeded):
            await late
        await ran(reports, gates, 4)
        assert done == [0, 1, 2, 4]
        await asyncio.gather(*running, behind)
