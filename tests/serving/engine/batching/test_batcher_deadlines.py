"""What is wanted by a certain time starts in time, and what was computed in vain is counted."""

import asyncio

import pytest

from serving.engine.batching.batch import BatchReport
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.forecast import Forecast
from serving.engine.batching.queue import BatchQueue
from serving.errors import Internal
from serving.types import Timing
from tests.serving.engine.batching.driving import (
    HOUR,
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


def forecast_of(milliseconds: int) -> Forecast:
    forecast = Forecast()
    forecast.learn(1, milliseconds * MS)
    return forecast


async def test_a_batch_starts_in_time_for_the_deadline_as_execution_times_are_known() -> None:
    model, clock, forecast = Model(is_open=True), Clock(), forecast_of(30)
    queue: BatchQueue[int] = BatchQueue(policy(max_delay=HOUR), forecast.lead)
    batcher: IntBatcher = Batcher(queue, model, ["slot"], forecast=forecast, clock=clock)
    task = submit(batcher, 0, deadline=100 * MS)
    await turns()
    clock.now = 100 * MS - forecast.lead(1) - 1
    await clock.read(3)
    assert model.batches == []
    clock.now += 1
    assert await results(task) == [100]
    await batcher.close()


async def test_a_latency_objective_ends_the_wait_as_a_deadline_does() -> None:
    model, clock, forecast = Model(is_open=True), Clock(), forecast_of(3)
    queue: BatchQueue[int] = BatchQueue(policy(max_delay=HOUR), forecast.lead)
    batcher: IntBatcher = Batcher(
        queue, model, ["slot"], forecast=forecast, objective=20 * MS, clock=clock
    )
    task = submit(batcher, 0)
    await turns()
    assert model.batches == []
    clock.now = 20 * MS - forecast.lead(1)
    # Were it not for the objective, nothing would wake the batcher within the hour.
    assert await results(task) == [100]
    await batcher.close()


def test_the_lead_allows_for_executions_that_take_longer_than_the_mean() -> None:
    steady, unsteady = forecast_of(10), Forecast()
    for _ in range(200):
        unsteady.learn(1, 5 * MS)
        unsteady.learn(1, 15 * MS)
    assert steady.lead(1) == pytest.approx(12 * MS)
    assert unsteady.lead(1) > 15 * MS + 2 * MS
    assert Forecast().lead(1) == 2 * MS


async def test_rows_whose_caller_has_gone_are_counted_with_their_share_of_the_time() -> None:
    model, reports = Model(), list[BatchReport]()
    async with batching(model, policy(), on_batch=reports.append) as batcher:
        kept, cancelled = submit(batcher, 0), submit(batcher, 1, rows=2)
        await model.arrival()
        cancelled.cancel()
        await turns()
        model.release()
        assert await results(kept) == [100]
    # An execution takes 6 ns here.
    assert [(each.rows, each.abandoned, each.wasted) for each in reports] == [(3, 2, 4)]


async def test_rows_that_run_beyond_their_deadline_are_counted_and_answered_all_the_same() -> None:
    model, clock, reports = Model(), Clock(), list[BatchReport]()
    async with batching(model, policy(), clock=clock, on_batch=reports.append) as batcher:
        late, punctual = submit(batcher, 0, deadline=10), submit(batcher, 1, deadline=11)
        await model.arrival()
        clock.now = 10
        model.release()
        assert await results(late, punctual) == [100, 101]
    assert [(each.abandoned, each.wasted) for each in reports] == [(1, 3)]


async def test_a_failed_execution_has_no_time_to_waste() -> None:
    model, reports = Model(), list[BatchReport]()
    model.failure = Internal("out of memory")
    async with batching(model, policy(), on_batch=reports.append) as batcher:
        cancelled = submit(batcher, 0)
        await model.arrival()
        cancelled.cancel()
        await turns()
    assert [(each.abandoned, each.wasted) for each in reports] == [(1, 0)]


async def test_the_wait_for_company_is_told_apart_from_the_wait_for_an_instance() -> None:
    model, clock = Model(), Clock()
    async with batching(model, policy(max_rows=2, max_delay=50 * MS), clock=clock) as batcher:
        running = [submit(batcher, item) for item in range(2)]
        await model.arrival()
        clock.now = 10
        first = submit(batcher, 2)
        await turns()
        clock.now = 100
        model.release()
        await asyncio.gather(*running)
        clock.now = 130
        second = submit(batcher, 3)
        await model.arrival()
        model.release()
        # 90 ns for the instance, and 30 for the second request.
        assert (await first)[1] == Timing(120, 1, 2, 3, batch_rows=2, company=30, queued_at=10)
        assert (await second)[1] == Timing(0, 1, 2, 3, batch_rows=2, company=0, queued_at=130)
