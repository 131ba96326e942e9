"""What the batcher keeps of requests and of batches until they are answered."""

import asyncio
from typing import Generic, TypeVar

from msgspec import Struct

from serving.engine.batching.batch import Batch
from serving.engine.batching.entries import Entry
from serving.engine.batching.worker import Worker
from serving.types import Timing

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


class Job(Struct, Generic[T, R], eq=False):
    """A request of some level, whoever waits for its result, and when that is foreseen."""

    item: T
    future: "asyncio.Future[tuple[R, Timing]]"
    expected_at: int = 0
    level: int = 0


class Flight(Struct, Generic[T, R, S], eq=False):
    """A batch that a worker, free for one since `free_since`, runs from `started` to `ended`.

    `duration` is how long that should take, None while nothing is known, and `expected_at` when it
    should have run; `is_stopped` whether it need not run to its end.
    """

    worker: Worker[S]
    batch: Batch[T, S]
    entries: list[Entry[Job[T, R]]]
    free_since: int
    duration: int | None
    expected_at: int
    started: int = 0
    ended: int = 0
    is_stopped: bool = False

    @property
    def is_unwanted(self) -> bool:
        """Whether nobody waits for any of its results; for any thread."""
        # The first alone tells most often, at an eighth of the price.
        entries = self.entries
        return entries[0].item.future.done() and all(one.item.future.done() for one in entries)
