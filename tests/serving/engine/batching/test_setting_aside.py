"""A full batch waits behind the one that runs, in the thread that is to run it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serving.engine.batching.arrivals import ArrivalQueue
from serving.engine.batching.batch import BatchReport
from serving.engine.batching.forecast import Forecast
from serving.errors import Code, Internal, Overloaded
from serving.types import BatchPolicy, Timing
from tests.serving.engine.batching.driving import (
    MS,
    Clock,
    IntBatcher,
    Model,
    batching,
    results,
    submit,
    turns,
)
from tests.serving.engine.batching.policies import policy
from tests.serving.engine.batching.test_batcher_stopping import Stoppable

TWO = policy(max_rows=2)


@asynccontextmanager
async def setting_aside(
    model: Model, policy: BatchPolicy = TWO, lasts: int = MS, **rest: Any
) -> AsyncIterator[tuple[IntBatcher, "asyncio.Task[tuple[int, Timing]]"]]:
    """A batcher and a request that it runs already, for `lasts` nanoseconds as it believes."""
    queue: ArrivalQueue[Any] = ArrivalQueue(policy)
    forecast = Forecast()
    if lasts:
        forecast.learn(1, lasts)
    given = {"queue": queue, "is_full": queue.is_full, "forecast": forecast} | rest
    async with batching(model, policy, **given) as batcher:
        first = submit(batcher, 0)
        assert await model.arrival() == [0]
        yield batcher, first


def hold_loop_until_the_second_begins(model: Model) -> None:
    for _ in range(30_000):
        if len(model.batches) > 1:
            return
        time.sleep(0.001)
    raise AssertionError("no other batch has begun")


async def test_a_full_batch_leaves_the_queue_and_runs_next() -> None:
    model = Model()
    async with setting_aside(model) as (batcher, _):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        assert batcher.running == 1
        assert model.batches == [[0]]
        # It would make room in the queue for the one that comes.
        tasks[0].cancel()
        later = submit(batcher, 3)
        await turns()
        model.open()
        assert await results(tasks[1], later) == [102, 103]
    assert model.batches == [[0], [1, 2], [3]]


async def test_what_is_set_aside_counts_as_waiting_until_it_begins() -> None:
    model = Model()
    async with setting_aside(model) as (batcher, _):
        tasks = [submit(batcher, item) for item in (1, 2, 3)]
        await turns()
        assert batcher.waiting == 3
        model.release()
        hold_loop_until_the_second_begins(model)
        assert batcher.waiting == 1
        model.open()
        await results(*tasks)


async def test_it_begins_without_a_turn_of_the_loop() -> None:
    model = Model()
    async with setting_aside(model) as (batcher, _):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        model.open()
        hold_loop_until_the_second_begins(model)
        assert not any(task.done() for task in tasks)
        assert await results(*tasks) == [101, 102]


async def test_one_is_set_aside_and_what_comes_later_waits_in_its_order() -> None:
    model = Model()
    async with setting_aside(model) as (batcher, _):
        tasks = [submit(batcher, item) for item in range(1, 8)]
        await turns()
        model.open()
        assert await results(*tasks) == [item + 100 for item in range(1, 8)]
    assert model.batches == [[0], [1, 2], [3, 4], [5, 6], [7]]


async def test_a_batch_that_may_grow_stays_in_the_queue() -> None:
    model = Model()
    async with setting_aside(model) as (batcher, _):
        tasks = [submit(batcher, 1, key="a"), submit(batcher, 2, key="b")]
        await turns()
        tasks.append(submit(batcher, 3, key="a"))
        await turns()
        model.open()
        await results(*tasks)
    assert model.batches == [[0], [1, 3], [2]]


@pytest.mark.parametrize("lasts", [0, 11 * MS], ids=["nobody knows how long", "long"])
async def test_nothing_is_set_aside_behind_a_batch_that_may_take_long(lasts: int) -> None:
    model = Model()
    async with setting_aside(model, lasts=lasts) as (batcher, _):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        tasks[0].cancel()
        later = submit(batcher, 3)
        await turns()
        model.open()
        assert await results(tasks[1], later) == [102, 103]
    assert model.batches == [[0], [2, 3]]


async def test_of_several_slots_whichever_is_free_first_takes_the_next_batch() -> None:
    model = Model()
    async with setting_aside(model, slots=["a", "b"]) as (batcher, _):
        second = submit(batcher, 1)
        await model.arrival()
        tasks = [submit(batcher, item) for item in (2, 3)]
        await turns()
        tasks[0].cancel()
        later = submit(batcher, 4)
        await turns()
        model.open()
        assert await results(second, tasks[1], later) == [101, 103, 104]
    assert model.batches == [[0], [1], [3, 4]]


async def test_what_was_set_aside_is_answered_before_the_batcher_closes() -> None:
    model = Model()
    async with setting_aside(model) as (batcher, _):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        closing = asyncio.ensure_future(batcher.close())
        await turns()
        assert not closing.done()
        model.open()
        await closing
        assert await results(*tasks) == [101, 102]


async def test_a_failure_is_of_its_own_batch_alone() -> None:
    model = Model()
    async with setting_aside(model) as (batcher, _):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        model.release()
        assert await model.arrival() == [1, 2]
        model.failure = RuntimeError("broken")
        model.release()
        for task in tasks:
            with pytest.raises(Internal, match="broken"):
                await task
        model.failure = None


async def test_time_behind_another_batch_is_time_in_the_queue() -> None:
    """And none of it was spent waiting for company."""
    model, clock = Model(), Clock()
    async with setting_aside(model, clock=clock) as (batcher, _):
        clock.now = 10
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        clock.now = 70
        model.open()
        timings = [timing for _, timing in await asyncio.gather(*tasks)]
    assert timings == [Timing(60, 1, 2, 3, batch_rows=2, queued_at=10)] * 2


async def test_the_wait_counts_what_was_set_aside() -> None:
    model, clock = Model(), Clock()
    async with setting_aside(model, clock=clock) as (batcher, _):
        before = batcher.wait
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        assert (before, batcher.wait) == (MS, 3 * MS)  # Two rows take twice as long as one.
        later = submit(batcher, 3)
        await turns()
        assert batcher.wait > 3 * MS
        model.open()
        await results(later, *tasks)


async def test_who_would_be_too_late_behind_it_is_refused() -> None:
    model, clock = Model(), Clock()
    async with setting_aside(model, clock=clock) as (batcher, _):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        late = submit(batcher, 3, deadline=4 * MS - 1)
        punctual = submit(batcher, 4, deadline=4 * MS)
        with pytest.raises(Overloaded):
            await late
        model.open()
        await results(punctual, *tasks)


@pytest.mark.parametrize("has_begun", [False, True])
async def test_it_is_waited_for_in_full_where_the_batch_before_it_took_too_long(
    has_begun: bool,
) -> None:
    model, clock = Model(), Clock()
    async with setting_aside(model, clock=clock) as (batcher, first):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        clock.now = 5 * MS  # The first was expected at 1 ms, those two take 2 ms.
        if has_begun:
            model.release()
            await first
        late = submit(batcher, 3, deadline=7 * MS)
        punctual = submit(batcher, 4, deadline=9 * MS)
        await turns()
        model.open()
        with pytest.raises(Overloaded):
            await late
        await results(punctual, *tasks)


async def test_what_was_set_aside_is_not_run_once_nobody_wants_it() -> None:
    model, reports, drops = Model(), list[BatchReport](), list[Code]()
    hooks: dict[str, Any] = {"on_batch": reports.append, "on_drop": drops.append}
    async with setting_aside(model, **hooks) as (batcher, first):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        for task in tasks:
            task.cancel()
        later = submit(batcher, 3)
        await turns()
        model.open()
        assert await results(first, later) == [100, 103]
    assert model.batches == [[0], [3]]
    assert [report.rows for report in reports] == [1, 1]
    assert drops == [Code.CANCELLED] * 2


async def test_what_nobody_wants_is_stopped_and_what_was_set_aside_is_not() -> None:
    model, reports = Stoppable(), list[BatchReport]()
    async with setting_aside(model, stop=model.stop, on_batch=reports.append) as (batcher, first):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        first.cancel()
        assert await model.arrival() == [1, 2]
        model.failure = None
        model.open()
        assert await results(*tasks) == [101, 102]
    assert model.stopped == ["slot"]
    assert [report.is_stopped for report in reports] == [True, False]


async def test_a_slot_that_has_gone_on_to_what_was_set_aside_is_not_stopped() -> None:
    model = Stoppable()
    async with setting_aside(model, stop=model.stop) as (batcher, first):
        tasks = [submit(batcher, item) for item in (1, 2)]
        await turns()
        first.cancel()  # The loop hears of it in its next turn, before it does of the end.
        model.release()
        hold_loop_until_the_second_begins(model)
        await turns()
        model.open()
        assert await results(*tasks) == [101, 102]
    assert model.stopped == []
