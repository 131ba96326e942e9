"""How a batcher ends."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from serving.engine.batching.batch import Batch, Executed
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.queue import BatchQueue
from serving.errors import (
    Code,
    Unavailable,
)
from tests.serving.engine.batching.driving import (
    HOUR,
    IntBatcher,
    Model,
    batching,
    results,
    submit,
    turns,
)
from tests.serving.engine.batching.policies import policy


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
