"""What is short, and alone on its loop, runs where it is; everything else in its thread."""

import asyncio
import gc
import threading
import weakref
from itertools import pairwise
from typing import Any

import pytest

from serving.engine.batching.batch import Batch, BatchReport, Executed
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.entries import Step
from serving.engine.batching.forecast import Forecast
from serving.engine.batching.loop_time import LoopTime
from serving.engine.batching.queue import BatchQueue
from serving.engine.batching.sequencer import Sequencer
from serving.errors import Internal
from serving.types import SequencePolicy
from tests.serving.engine.batching.driving import Clock, turns
from tests.serving.engine.batching.policies import policy

US = 1000
MS = 1000 * US


@pytest.mark.parametrize(
    ("processors", "duration", "granted"),
    [
        (1, 2 * MS, True),
        (1, 4 * MS, False),
        (2, 200 * US, True),
        (2, 2 * MS, False),
        (2, None, False),
    ],
)
def test_only_what_is_short_and_known_may_keep_the_loop(
    processors: int, duration: int | None, granted: bool
) -> None:
    assert LoopTime(processors).grant("a", duration, 0) is granted


def test_of_several_models_in_use_one_keeps_the_loop() -> None:
    time = LoopTime(2)
    assert time.grant("a", 10, 0)
    assert not time.grant("b", 10, 99 * MS)
    assert time.grant("a", 10, 99 * MS)
    assert not time.grant("b", 10, 198 * MS)
    assert time.grant("b", 10, 199 * MS)
    assert not time.grant("a", 10, 200 * MS)


def test_who_executes_no_more_keeps_nobody_waiting() -> None:
    time = LoopTime(2)
    assert time.grant("a", 10, 0)
    time.release("b")
    assert not time.grant("b", 10, 1)
    time.release("a")
    assert time.grant("b", 10, 1)


class Threads:
    """Where each batch was executed, and how much it held."""

    def __init__(self) -> None:
        self.seen: list[threading.Thread] = []
        self.sizes: list[int] = []
        self.failure: Exception | None = None

    def __call__(self, batch: Batch[int, str]) -> Executed[int]:
        self.seen.append(threading.current_thread())
        self.sizes.append(len(batch.items))
        if self.failure:
            raise self.failure
        return Executed([item + 1 for item in batch.items], 0, 10 * US, 0)

    @property
    def are_here(self) -> list[bool]:
        return [thread is threading.current_thread() for thread in self.seen]


def started(
    execute: Threads, reports: list[BatchReport], slots: int = 1, max_rows: int = 8
) -> Batcher[int, int, str]:
    return Batcher(
        BatchQueue(policy(max_rows, max_queue=5000)),
        execute,
        ["slot"] * slots,
        on_batch=reports.append,
        forecast=Forecast(),
        loop_time=LoopTime(2),
    )


async def test_the_first_runs_in_a_thread_and_what_proved_short_on_the_loop() -> None:
    threads, reports = Threads(), list[BatchReport]()
    batcher = started(threads, reports)
    assert [(await batcher.submit(n, rows=1, key=0))[0] for n in range(3)] == [1, 2, 3]
    assert threads.are_here == [False, True, True]
    assert [report.rows for report in reports] == [1, 1, 1]
    await batcher.close()


async def test_thousands_that_wait_are_answered_in_order_of_arrival() -> None:
    threads, reports = Threads(), list[BatchReport]()
    batcher = started(threads, reports, slots=2)
    await batcher.submit(0, rows=1, key=0)
    answered: list[int] = []

    async def ask(n: int) -> None:
        answered.append((await batcher.submit(n, rows=1, key=0))[0])

    await asyncio.gather(*map(ask, range(5000)))
    assert answered == list(range(1, 5001))
    assert threads.sizes == [1] + [8] * 625
    assert set(threads.are_here[1:]) == {True}
    await batcher.close()


async def test_others_have_their_turn_between_two_batches() -> None:
    threads, reports = Threads(), list[BatchReport]()
    batcher = started(threads, reports, max_rows=1)
    await batcher.submit(0, rows=1, key=0)
    executed = [1]

    async def look() -> None:
        while len(executed) < 8:
            executed.append(len(threads.seen))
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(batcher.submit(n, rows=1, key=0)) for n in range(10)]
    await asyncio.sleep(0)
    await look()
    assert max(after - before for before, after in pairwise(executed)) <= 1
    await asyncio.gather(*tasks)
    await batcher.close()


async def test_a_failure_on_the_loop_fails_its_batch_and_nothing_else() -> None:
    threads, reports = Threads(), list[BatchReport]()
    batcher = started(threads, reports)
    await batcher.submit(0, rows=1, key=0)
    threads.failure = RuntimeError("no")
    with pytest.raises(Internal, match="no"):
        await batcher.submit(1, rows=1, key=0)
    threads.failure = None
    assert (await batcher.submit(2, rows=1, key=0))[0] == 3
    assert threads.are_here == [False, True, True]
    assert [bool(report.error) for report in reports] == [False, True, False]
    await batcher.close()


async def test_a_sequence_is_idle_from_its_step_on_the_loop_on() -> None:
    forecast = Forecast()
    forecast.learn(1, 10 * US)
    threads = Threads()
    queue: Sequencer[Any] = Sequencer(SequencePolicy(slots=1, max_idle=MS, max_queue=9), 1, "m")
    batcher = Batcher[int, int, str](
        queue, threads, ["slot"], forecast=forecast, loop_time=LoopTime(2), clock=Clock()
    )
    await batcher.submit(0, rows=1, key=0, step=Step(7, start=True, end=False))
    await turns()
    assert queue.expires_at == MS
    assert threads.are_here == [True]
    await batcher.close()


async def test_closing_answers_what_waits() -> None:
    threads, reports = Threads(), list[BatchReport]()
    batcher = started(threads, reports)
    await batcher.submit(0, rows=1, key=0)
    tasks = [asyncio.ensure_future(batcher.submit(n, rows=1, key=0)) for n in range(20)]
    await asyncio.sleep(0)
    await batcher.close()
    assert [(await task)[0] for task in tasks] == list(range(1, 21))


async def test_of_a_model_that_is_closed_nothing_stays_in_memory() -> None:
    loop_time, forecast = LoopTime(2), Forecast()
    forecast.learn(1, 10 * US)
    threads = Threads()
    batcher = Batcher[int, int, str](
        BatchQueue(policy(8)), threads, ["slot"], forecast=forecast, loop_time=loop_time
    )
    await batcher.submit(0, rows=1, key=0)
    assert threads.are_here == [True]
    await batcher.close()
    seen = weakref.ref(batcher)
    del batcher
    gc.collect()
    assert seen() is None


class Sent:
    """What a request holds, which is to go with it."""


def failing(batch: Batch[Any, str]) -> Executed[int]:
    """Runs numbers only."""
    try:
        return Executed([item + 1 for item in batch.items], 0, 10 * US, 0)
    except TypeError as error:
        raise Internal("no number") from error


@pytest.mark.parametrize("loop_time", [None, LoopTime(2)], ids=["in a thread", "on the loop"])
async def test_what_failed_goes_without_the_garbage_collector(loop_time: LoopTime | None) -> None:
    queue: BatchQueue[Any] = BatchQueue(policy(1))
    batcher: Batcher[Any, int, str] = Batcher(queue, failing, ["slot"], loop_time=loop_time)
    await batcher.submit(0, rows=1, key=0)
    gc.disable()
    try:
        sent = Sent()
        seen = weakref.ref(sent)
        answer = batcher.submit(sent, rows=1, key=0)
        del sent
        with pytest.raises(Internal, match="no number"):
            await answer
        del answer
        await batcher.close()  # and with it the thread, which may have it for a moment longer
        left = seen()
    finally:
        gc.enable()
    assert left is None
