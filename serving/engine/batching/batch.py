"""What the batcher and the executions tell each other."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from serving.engine.batching.entries import Step
from serving.errors import ServingError
from serving.types import Timing

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")


class Batch(Struct, Generic[T, S], frozen=True):
    """What one execution gets: the slot that is its own meanwhile, and requests with their rows.

    `steps` are the requests' places in their sequences, where they belong to any.
    """

    slot: S
    items: Sequence[T]
    rows: Sequence[int]
    steps: Sequence[Step] = ()


class Executed(Struct, Generic[R], frozen=True):
    """What one execution gives: a result for each item in order; durations in nanoseconds.

    `rows` is how many ran, if these were not just those of the requests.
    """

    results: Sequence[R]
    compute_input: int = 0
    compute_infer: int = 0
    compute_output: int = 0
    rows: int = 0


class BatchReport(Struct, frozen=True):
    """One execution, for the statistics; durations in nanoseconds, 0 where it failed.

    `abandoned`  rows whose callers went away while they were computed, or stopped waiting: work
                 for nothing
    `wasted`     their share of the time that the execution took
    `is_stopped` whether it was ended early, as all of it was work for nothing
    `error`      why the execution failed, if it did
    """

    rows: int
    compute_input: int
    compute_infer: int
    compute_output: int
    abandoned: int
    wasted: int = 0
    is_stopped: bool = False
    error: ServingError | None = None

    @property
    def has_run(self) -> bool:
        """Whether it came to its end."""
        return self.error is None and not self.is_stopped

    @property
    def timing(self) -> Timing:
        """The same as the statistics take it."""
        times = self.compute_input, self.compute_infer, self.compute_output
        return Timing(0, *times, batch_rows=self.rows)
