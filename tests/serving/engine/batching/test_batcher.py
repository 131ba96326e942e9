"""The batcher with real threads, on both event loops; gates and a set clock instead of sleeps."""

import asyncio
import random
import threading
import time
from collections import Counter

import pytest

from serving.engine.batching.batch import Batch, BatchReport, Executed
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.queue import BatchQueue
from serving.errors import (
    Code,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Overloaded,
)
from serving.types import Timing
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


async def test_each_caller_gets_the_result_of_its_own_item() -> None:
    model = Model(is_open=True)
    async with batching(model, policy(max_rows=3)) as batcher:
        answers = await results(*(submit(batcher, item) for item in range(10)))
    assert answers == [item + 100 for item in range(10)]


async def test_requests_that_arrive_in_one_turn_of_the_loop_share_a_batch() -> None:
    model = Model(is_open=True)
    async with batching(model, policy(max_rows=4)) as batcher:
        await results(*(submit(batcher, item) for item in range(4)))
    assert model.batches == [[0, 1, 2, 3]]


async def test_the_queue_fills_while_no_slot_is_free() -> None:
    model = Model()
    async with batching(model, policy(max_rows=8)) as batcher:
        tasks = [submit(batcher, 0)]
        await model.arrival()
        for item in (1, 2, 3):
            tasks.append(submit(batcher, item))
            await turns()
        assert (batcher.waiting, batcher.running) == (3, 1)
        model.release()
        assert await model.arrival() == [1, 2, 3]
        model.release()
        assert await results(*tasks) == [100, 101, 102, 103]


async def test_slots_execute_side_by_side_and_each_one_batch_at_a_time() -> None:
    model = Model()
    async with batching(model, policy(max_rows=1), slots=["a", "b"]) as batcher:
        tasks = [submit(batcher, item) for item in range(3)]
        await model.arrival()
        await model.arrival()
        await turns()
        assert sorted(model.slots) == ["a", "b"]
        assert batcher.waiting == 1
        model.open()
        assert await results(*tasks) == [100, 101, 102]


async def test_a_priority_moves_a_request_ahead_of_those_that_wait() -> None:
    model = Model()
    three = policy(max_rows=1, priority_levels=3, default_level=2)
    async with batching(model, three) as batcher:
        tasks = [submit(batcher, 0)]
        await model.arrival()
        tasks += [submit(batcher, p, priority=p) for p in (3, 9, 1)]
        await turns()
        model.open()
        await results(*tasks)
    assert model.batches == [[0], [1], [9], [3]]


async def test_the_answer_says_where_the_time_went() -> None:
    model, clock = Model(), Clock()
    async with batching(model, policy(), clock=clock) as batcher:
        first = submit(batcher, 0)
        await model.arrival()
        second = submit(batcher, 1, rows=3)
        await turns()
        clock.now = 70
        model.open()
        assert (await first)[1] == Timing(0, 1, 2, 3, batch_rows=1)
        assert (await second)[1] == Timing(70, 1, 2, 3, batch_rows=3)


async def test_every_execution_is_reported_on_the_thread_of_the_loop() -> None:
    model, clock = Model(), Clock()
    reports: list[tuple[BatchReport, int]] = []

    def note(report: BatchReport) -> None:
        reports.append((report, threading.get_ident()))

    async with batching(model, policy(), clock=clock, on_batch=note) as batcher:
        tasks = [submit(batcher, 0)]
        await model.arrival()
        tasks += [submit(batcher, 1, rows=3), submit(batcher, 2, rows=2)]
        await turns()
        clock.now = 70
        model.open()
        await results(*tasks)
    assert reports == [
        (BatchReport(1, 1, 2, 3, abandoned=0), threading.get_ident()),
        (BatchReport(5, 1, 2, 3, abandoned=0), threading.get_ident()),
    ]


async def test_a_batch_waits_for_company_as_long_as_the_policy_says() -> None:
    model, clock = Model(is_open=True), Clock()
    async with batching(model, policy(max_delay=2 * MS), clock=clock) as batcher:
        task = submit(batcher, 0)
        await clock.read(5)
        assert model.batches == []
        clock.now = 2 * MS
        assert await results(task) == [100]


async def test_waiting_for_company_takes_its_time_and_does_not_spin() -> None:
    model = Model(is_open=True)
    reads = 0

    def clock() -> int:
        nonlocal reads
        reads += 1
        return time.monotonic_ns()

    waits = []
    async with batching(model, policy(max_delay=3_300_000), clock=clock) as batcher:
        for item in range(20):
            _, timing = await batcher.submit(item, rows=1, key="k")
            waits.append(timing.queue)
    assert min(waits) >= 3_300_000
    assert reads <= 20 * 12  # A busy loop would be at it hundreds of times.


async def test_a_busy_model_does_not_keep_a_request_beyond_its_deadline() -> None:
    model, clock, drops = Model(), Clock(), list[Code]()
    async with batching(model, policy(), clock=clock, on_drop=drops.append) as batcher:
        running = submit(batcher, 0)
        await model.arrival()
        waiting = submit(batcher, 1, deadline=5 * MS)
        await turns()
        clock.now = 5 * MS
        with pytest.raises(DeadlineExceeded, match=r"^Request timeout expired$"):
            await waiting
        model.release()
        assert await results(running) == [100]
    assert model.batches == [[0]]
    assert drops == [Code.DEADLINE_EXCEEDED]


async def test_the_queue_timeout_of_the_policy_ends_the_wait() -> None:
    model, clock = Model(), Clock()
    async with batching(model, policy(timeout=5 * MS), clock=clock) as batcher:
        running = submit(batcher, 0)
        await model.arrival()
        waiting = submit(batcher, 1)
        await turns()
        clock.now = 5 * MS
        with pytest.raises(DeadlineExceeded):
            await waiting
        model.release()
        assert await results(running) == [100]


async def test_a_request_that_comes_too_late_never_runs() -> None:
    model = Model(is_open=True)
    async with batching(model, policy()) as batcher:
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(0, rows=1, key="k", deadline=1)
    assert model.batches == []


async def test_a_full_queue_refuses_at_once_and_serves_the_rest() -> None:
    model, drops = Model(), list[Code]()
    async with batching(model, policy(max_queue=2), on_drop=drops.append) as batcher:
        tasks = [submit(batcher, 0)]
        await model.arrival()
        tasks += [submit(batcher, 1), submit(batcher, 2)]
        await turns()
        with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
            await batcher.submit(3, rows=1, key="k")
        model.open()
        assert await results(*tasks) == [100, 101, 102]
    assert drops == [Code.OVERLOADED]


async def test_a_cancelled_request_leaves_the_queue_and_its_neighbours_run() -> None:
    model, drops = Model(), list[Code]()
    async with batching(model, policy(), on_drop=drops.append) as batcher:
        tasks = [submit(batcher, 0)]
        await model.arrival()
        tasks += [submit(batcher, item) for item in (1, 2, 3)]
        await turns()
        tasks.pop(2).cancel()
        await turns()
        assert batcher.waiting == 2
        model.open()
        assert await results(*tasks) == [100, 101, 103]
    assert model.batches == [[0], [1, 3]]
    assert drops == [Code.CANCELLED]


async def test_a_request_cancelled_during_its_execution_harms_no_neighbour() -> None:
    model, reports = Model(), list[BatchReport]()
    async with batching(model, policy(), on_batch=reports.append) as batcher:
        kept, cancelled = submit(batcher, 0), submit(batcher, 1, rows=3)
        await model.arrival()
        cancelled.cancel()
        await turns()
        model.release()
        assert await results(kept) == [100]
        assert cancelled.cancelled()
    assert [(report.rows, report.abandoned) for report in reports] == [(4, 3)]


@pytest.mark.parametrize("failure", [None, Internal("out of memory")])
async def test_a_storm_of_cancellations_harms_nobody_else(failure: Exception | None) -> None:
    dice = random.Random(7)
    model, drops = Model(), list[Code]()
    model.failure = failure
    async with batching(
        model, policy(max_rows=4), slots=["a", "b"], on_drop=drops.append
    ) as batcher:
        tasks = [submit(batcher, item, key=dice.choice("ab")) for item in range(300)]
        for step in range(150):
            dice.choice(tasks).cancel()
            if dice.random() < 0.5:
                model.release()
            await turns(step % 3)
        model.open()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    gone = sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert 20 < gone <= 150
    for item, outcome in enumerate(outcomes):
        if not isinstance(outcome, BaseException):
            assert outcome[0] == item + 100
        elif not isinstance(outcome, asyncio.CancelledError):
            assert str(outcome) == str(failure)
    run = Counter(item for batch in model.batches for item in batch)
    assert set(run.values()) == {1}
    assert set(drops) == {Code.CANCELLED}


async def test_an_answer_and_a_cancellation_in_the_same_turn_upset_nothing() -> None:
    model = Model()
    model.failure = Internal("broken")
    async with batching(model, policy(max_rows=1)) as batcher:
        task = submit(batcher, 0)
        await model.arrival()
        batcher._on_batch = lambda report: task.cancel()
        model.release()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (Internal("no such kernel"), Internal, "no such kernel"),
        (InvalidArgument("token 7 unknown"), InvalidArgument, "token 7 unknown"),
        (Overloaded("later", retry_after=9.0), Overloaded, "later"),
        (ValueError("bad shape"), Internal, "inference failed: ValueError('bad shape')"),
        (MemoryError(), Internal, "inference failed: MemoryError()"),
        (SystemExit(3), Internal, "inference failed: SystemExit(3)"),
    ],
)
async def test_a_failed_execution_fails_its_batch_and_nothing_else(
    failure: BaseException, kind: type[Exception], message: str
) -> None:
    model, reports = Model(), list[BatchReport]()
    async with batching(model, policy(max_rows=2), on_batch=reports.append) as batcher:
        model.failure = failure
        tasks = [submit(batcher, 0), submit(batcher, 1)]
        await model.arrival()
        model.release()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [(type(error), str(error)) for error in errors] == [(kind, message)] * 2
        assert errors[0] is not errors[1]
        if isinstance(failure, Overloaded):
            assert [error.retry_after for error in errors] == [9.0, 9.0]  # type: ignore[union-attr]
        assert type(reports[0].error) is kind
        model.failure = None
        model.open()
        assert await results(submit(batcher, 2)) == [102]


async def test_a_result_too_few_fails_the_batch() -> None:
    def forgetful(batch: Batch[int, str]) -> Executed[int]:
        return Executed(batch.items[1:])

    batcher: IntBatcher = Batcher(BatchQueue(policy()), forgetful, ["slot"])
    errors = await asyncio.gather(submit(batcher, 0), submit(batcher, 1), return_exceptions=True)
    assert [str(error) for error in errors] == ["2 requests were run but 1 answered"] * 2
    await batcher.close()


async def test_a_failing_hook_costs_nobody_an_answer() -> None:
    def broken(event: object) -> None:
        raise RuntimeError("statistics are out of order")

    model = Model()
    async with batching(model, policy(max_queue=1), on_batch=broken, on_drop=broken) as batcher:
        running = submit(batcher, 0)
        await model.arrival()
        waiting = submit(batcher, 1)
        await turns()
        with pytest.raises(Overloaded):
            await batcher.submit(2, rows=1, key="k")
        model.open()
        assert await results(running, waiting) == [100, 101]


async def test_no_key_starves_while_another_is_in_demand() -> None:
    model = Model()
    async with batching(model, policy(max_rows=2)) as batcher:
        tasks = [submit(batcher, 0, key="busy")]
        await model.arrival()
        tasks += [submit(batcher, item, key="busy") for item in (1, 2, 3, 4)]
        tasks += [submit(batcher, 5, key="rare")]
        tasks += [submit(batcher, item, key="busy") for item in (6, 7)]
        await turns()
        model.open()
        await results(*tasks)
    assert model.batches == [[0], [1, 2], [3, 4], [5], [6, 7]]
