"""The batcher with real threads, on both event loops; gates and a set clock instead of sleeps."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import uvloop

from serving.engine.batching.batch import Batch, BatchReport, Executed
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.queue import BatchQueue
from serving.errors import (
    Code,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Overloaded,
    Unavailable,
)
from serving.types import BatchPolicy, Timing
from tests.serving.engine.batching.policies import policy

IntBatcher: TypeAlias = Batcher[int, int, str]
MS = 1_000_000
HOUR = 3600 * 1000 * MS


class Model:
    """Adds 100 to each item; a batch runs when the test releases it. Open: as soon as it comes."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.batches: list[list[int]] = []
        self.slots: list[str] = []
        self.failure: BaseException | None = None
        self.is_open = is_open
        self._arrivals: asyncio.Queue[list[int]] = asyncio.Queue()
        self._gate = threading.Semaphore(0)

    def __call__(self, batch: Batch[int, str]) -> Executed[int]:
        self.batches.append(list(batch.items))
        self.slots.append(batch.slot)
        self.loop.call_soon_threadsafe(self._arrivals.put_nowait, list(batch.items))
        if not self.is_open:
            assert self._gate.acquire(timeout=30)
        if self.failure is not None:
            raise self.failure
        return Executed([item + 100 for item in batch.items], 1, 2, 3)

    async def arrival(self) -> list[int]:
        """The next batch whose execution has begun."""
        return await self._arrivals.get()

    def release(self, batches: int = 1) -> None:
        self._gate.release(batches)

    def open(self) -> None:
        self.is_open = True
        self.release(100)


class Clock:
    """Stands still until the test sets `now`."""

    def __init__(self) -> None:
        self.now = 0
        self.reads = 0
        self._awaited: tuple[int, asyncio.Event] | None = None

    def __call__(self) -> int:
        self.reads += 1
        if self._awaited is not None and self.reads >= self._awaited[0]:
            self._awaited[1].set()
        return self.now

    async def read(self, times: int) -> None:
        """Until it was read `times` more; only while no worker thread is about to read it."""
        self._awaited = self.reads + times, asyncio.Event()
        await self._awaited[1].wait()


@asynccontextmanager
async def batching(model: Model, policy: BatchPolicy, **rest: Any) -> AsyncIterator[IntBatcher]:
    """A batcher with one slot, closed in the end; nothing may have gone wrong on the loop."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    batcher: IntBatcher = Batcher(BatchQueue(policy), model, rest.pop("slots", ["slot"]), **rest)
    try:
        yield batcher
    finally:
        model.open()
        await batcher.close()
    assert complaints == []


def submit(
    batcher: IntBatcher, item: int, *, rows: int = 1, key: str = "k", **rest: Any
) -> "asyncio.Task[tuple[int, Timing]]":
    return asyncio.ensure_future(batcher.submit(item, rows=rows, key=key, **rest))


async def turns(count: int = 10) -> None:
    """Let the loop do all it has to do by now."""
    for _ in range(count):
        await asyncio.sleep(0)


async def results(*tasks: "asyncio.Task[tuple[int, Timing]]") -> list[int]:
    return [result for result, _ in await asyncio.gather(*tasks)]


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
        assert (batcher.waiting, batcher.waiting_rows, batcher.running) == (3, 3, 1)
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
        (BatchReport(1, 1, 0, 1, 2, 3, abandoned=0), threading.get_ident()),
        (BatchReport(5, 2, 140, 1, 2, 3, abandoned=0), threading.get_ident()),
    ]


async def test_a_batch_waits_for_company_as_long_as_the_policy_says() -> None:
    model, clock = Model(is_open=True), Clock()
    async with batching(model, policy(max_delay=2 * MS), clock=clock) as batcher:
        task = submit(batcher, 0)
        await clock.read(5)
        assert model.batches == []
        clock.now = 2 * MS
        assert await results(task) == [100]


async def test_waiting_for_company_takes_its_time_and_neither_spins_nor_oversleeps() -> None:
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
    assert 3_300_000 <= min(waits) < 3_300_000 + 2 * MS
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


async def test_closing_answers_what_was_accepted_and_refuses_what_comes() -> None:
    model, drops = Model(), list[Code]()
    long = policy(max_rows=2, max_delay=HOUR)
    async with batching(model, long, on_drop=drops.append) as batcher:
        tasks = [submit(batcher, item) for item in range(5)]
        await model.arrival()
        closing = asyncio.ensure_future(batcher.close())
        await turns()
        with pytest.raises(Unavailable):
            await batcher.submit(9, rows=1, key="k")
        assert not closing.done()
        model.open()
        assert await results(*tasks) == [100, 101, 102, 103, 104]
        await closing
    assert drops == [Code.UNAVAILABLE]


async def test_closing_ends_the_threads() -> None:
    model = Model(is_open=True)
    async with batching(model, policy(), slots=["a", "b"], name="to-be-ended") as batcher:
        assert {"to-be-ended-0", "to-be-ended-1"} <= {t.name for t in threading.enumerate()}
        await batcher.submit(0, rows=1, key="k")
    assert not any(t.name.startswith("to-be-ended") for t in threading.enumerate())


async def test_closing_again_or_after_an_interruption_is_fine() -> None:
    model = Model()
    async with batching(model, policy()) as batcher:
        task = submit(batcher, 0)
        await model.arrival()
        interrupted = asyncio.ensure_future(batcher.close())
        both = [asyncio.ensure_future(batcher.close()) for _ in range(2)]
        await turns()
        interrupted.cancel()
        await turns()
        model.release()
        assert await results(task) == [100]
        await asyncio.gather(*both)
        await batcher.close()


async def test_closing_ends_when_the_last_one_waiting_gives_up() -> None:
    model = Model()
    async with batching(model, policy(max_rows=1)) as batcher:
        running, waiting = submit(batcher, 0), submit(batcher, 1)
        await model.arrival()
        closing = asyncio.ensure_future(batcher.close())
        await turns()
        running.cancel()
        waiting.cancel()
        model.release()
        await closing
    assert model.batches == [[0]]


async def test_a_batcher_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="without slots"):
        Batcher(BatchQueue(policy()), Model(is_open=True), [])


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_is_closed_during_an_execution_leaves_nothing_hanging(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    release = threading.Event()
    begun = threading.Event()

    def execute(batch: Batch[int, str]) -> Executed[int]:
        begun.set()
        assert release.wait(30)
        return Executed(batch.items)

    async def leave() -> IntBatcher:
        batcher: IntBatcher = Batcher(BatchQueue(policy()), execute, ["slot"])
        task = submit(batcher, 0)
        await asyncio.get_running_loop().run_in_executor(None, begun.wait)
        task.cancel()
        return batcher

    batcher = run(factory, leave())
    release.set()
    for worker in batcher._workers:
        worker.stop()


def run(
    factory: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, IntBatcher]
) -> IntBatcher:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
