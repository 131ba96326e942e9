"""What is counted of one request to a model that gives it any number of responses."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from serving.engine.batching.entries import UNNAMED
from serving.errors import ServingError
from serving.statistics import FailureReason, ResponseStatistics, VersionStatistics
from serving.types import InferenceRequest, Timing


class ResponseCounts:
    """Counts into `statistics` from a request's arrival, which is now; durations in nanoseconds."""

    def __init__(self, statistics: VersionStatistics) -> None:
        self._statistics = statistics
        self._arrived = self._last = time.monotonic_ns()
        self._count = 0

    def responded(self, infer: int | None = None, output: int = 0) -> None:
        """There is a response that took so long; None: all of the time since the last one."""
        now = time.monotonic_ns()
        if not self._count:
            self._statistics.record_first_response(now - self._arrived)
        self._place.succeeded(now - self._last if infer is None else infer, output)
        self._count += 1
        self._last = now

    def succeeded(self, rows: int, timing: Timing) -> None:
        """All responses were sent; as with Triton, that there are no more is an empty one."""
        now = time.monotonic_ns()
        self._place.empty(now - self._last)
        self._statistics.record_success(rows, now - self._arrived, timing)

    @contextmanager
    def failures_of(self, request: InferenceRequest) -> Iterator[None]:
        """Count what the block raises, and have what the queue says name `request`."""
        try:
            yield
        except ServingError as error:
            self._failed(FailureReason.of(error.code))
            if error.code is UNNAMED:
                raise error.labelled(request.label) from error.__cause__
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self._failed(FailureReason.CANCELED)
            raise

    def _failed(self, reason: FailureReason) -> None:
        """There is an error in the place of the next response, or nobody wants it."""
        now = time.monotonic_ns()
        if reason is FailureReason.CANCELED:
            self._place.cancel.add(now - self._last)
        else:
            self._place.failed(now - self._last)
        self._statistics.record_failure(reason, now - self._arrived)

    @property
    def _place(self) -> ResponseStatistics:
        """What is counted of responses in the place of the next one."""
        return self._statistics.response(self._count)
