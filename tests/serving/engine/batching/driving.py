"""A batcher with a model that a test holds back, and a clock that it sets."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from serving.engine.batching.batch import Batch, Executed
from serving.engine.batching.batcher import Batcher
from serving.engine.batching.queue import BatchQueue
from serving.types import BatchPolicy, Timing

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
    given: dict[str, Any] = {"queue": BatchQueue(policy), "slots": ["slot"]} | rest
    batcher: IntBatcher = Batcher(execute=model, **given)
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
