"""Executions that nobody waits for any more do not go on to their end."""

import threading
import time
from typing import Any

import pytest

from serving.engine.batching.batch import BatchReport
from serving.engine.batching.entries import Step
from serving.errors import Internal
from tests.serving.engine.batching.driving import Model, batching, results, submit, turns
from tests.serving.engine.batching.policies import policy


class Stoppable(Model):
    """A batch that is stopped fails, and is over."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped: list[str] = []

    def stop(self, slot: str) -> None:
        self.stopped.append(slot)
        self.failure = Internal("stopped")
        self.release()


def reporting(reports: list[BatchReport], model: Stoppable) -> dict[str, Any]:
    return {"on_batch": reports.append, "stop": model.stop}


async def test_an_execution_ends_when_the_last_of_its_callers_has_gone() -> None:
    model, reports = Stoppable(), list[BatchReport]()
    async with batching(model, policy(), **reporting(reports, model)) as batcher:
        first, second = submit(batcher, 0), submit(batcher, 1, rows=2)
        await model.arrival()
        first.cancel()
        await turns()
        assert model.stopped == []
        second.cancel()
        await turns()
        assert model.stopped == ["slot"]
        while not reports:
            await turns()
        model.failure = None
        later = submit(batcher, 2)
        await model.arrival()
        model.release()
        assert await results(later) == [102]
    [stopped, run] = reports
    assert (stopped.is_stopped, stopped.rows, stopped.abandoned) == (True, 3, 3)
    assert stopped.wasted > 0
    assert stopped.error is None
    assert (run.is_stopped, run.abandoned) == (False, 0)


async def test_what_ends_before_it_could_be_stopped_is_an_execution_as_any() -> None:
    model, reports = Stoppable(), list[BatchReport]()
    rest = {"on_batch": reports.append, "stop": model.stopped.append}
    async with batching(model, policy(), **rest) as batcher:
        task = submit(batcher, 0)
        await model.arrival()
        task.cancel()
        await turns()
        model.release()
    assert model.stopped == ["slot"]
    [report] = reports
    assert (report.is_stopped, report.abandoned, report.wasted) == (False, 1, 6)


async def test_those_who_leave_the_queue_stop_nothing() -> None:
    model = Stoppable()
    async with batching(model, policy(), stop=model.stop) as batcher:
        running = submit(batcher, 0)
        await model.arrival()
        waiting = submit(batcher, 1)
        await turns()
        waiting.cancel()
        await turns()
        model.release()
        assert await results(running) == [100]
    assert model.stopped == []


class HeldThread:
    """A clock that keeps other threads from reading it until the test releases them."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def __call__(self) -> int:
        if threading.current_thread() is not threading.main_thread():
            assert self.release.wait(timeout=30)
        return time.monotonic_ns()


@pytest.mark.parametrize("step", [None, Step("a", start=True, end=False)], ids=["alone", "step"])
async def test_what_nobody_wants_is_not_begun_unless_a_sequence_goes_on_from_it(
    step: Step | None,
) -> None:
    model, clock = Model(), HeldThread()
    async with batching(model, policy(), clock=clock) as batcher:
        task = submit(batcher, 0, step=step)
        while not batcher.running:
            await turns()
        task.cancel()
        await turns()
        clock.release.set()
    assert model.batches == ([] if step is None else [[0]])


async def test_an_execution_that_fails_is_a_failure_where_somebody_waits() -> None:
    model = Stoppable()
    model.failure = Internal("out of memory")
    async with batching(model, policy(), stop=model.stop) as batcher:
        task = submit(batcher, 0)
        await model.arrival()
        model.release()
        with pytest.raises(Internal, match="out of memory"):
            await task
