"""Threads whose batches take long let the event loop and faster models go first."""

import os
import sys
import threading

import pytest

from serving.engine.batching.batch import Batch, Executed
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.forecast import Forecast
from serving.engine.batching.queue import BatchQueue
from tests.serving.engine.batching.driving import MS
from tests.serving.engine.batching.policies import policy

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only there threads have a priority of their own"
)


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def execute(batch: Batch[int, str]) -> Executed[int]:
    """The niceness of the thread that executes."""
    return Executed([niceness() for _ in batch.items])


@pytest.mark.parametrize(("milliseconds", "steps"), [(None, 0), (9, 0), (11, 5)])
async def test_the_threads_of_a_slow_model_give_way_and_no_others(
    milliseconds: int | None, steps: int
) -> None:
    forecast = Forecast()
    forecast.learn(1, MS)
    if milliseconds is not None:
        forecast.learn(64, milliseconds * MS)
    batcher: Batcher[int, int, str] = Batcher(
        BatchQueue(policy()), execute, ["slot"], forecast=forecast
    )
    before = niceness()
    result, _ = await batcher.submit(0, rows=1, key="k")
    assert result == min(before + steps, 19)
    assert niceness() == before
    await batcher.close()
