"""What is counted per model version: one record behind the statistics API and the metrics.

Written by the thread that runs the event loop only, so plain integers do. Durations are
nanoseconds. As Triton counts: a request's phases are those of the batch it ran in, so that a sum
over requests says how long requests spent in a phase, and `batch_stats` how long executions did.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple

from serving.errors import Code
from serving.summaries import Summaries
from serving.types import Timing

# Upper bounds in nanoseconds: 1-2.5-5 steps from 50 microseconds, where a small model answers, to
# 10 s, where every client has given up.
DURATION_BOUNDS: Final = (
    50_000,
    *(step * 10**exponent for exponent in range(4, 9) for step in (10, 25, 50)),
    10_000_000_000,
)
# Places of responses that are told apart: whoever asks for many must not make these grow for ever.
MAX_PLACES: Final = 1024
ROWS_BOUNDS: Final = tuple(2**exponent for exponent in range(11))


class FailureReason(Enum):
    """Why a request failed, by the label values of Triton's failure counter."""

    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    BACKEND = "BACKEND"
    OTHER = "OTHER"

    @classmethod
    def of(cls, code: Code) -> "FailureReason":
        """The reason that a failure of this kind is counted by."""
        return _REASONS.get(code, cls.OTHER)


_REASONS: Final = {
    Code.OVERLOADED: FailureReason.REJECTED,
    Code.DEADLINE_EXCEEDED: FailureReason.REJECTED,
    Code.UNAVAILABLE: FailureReason.REJECTED,
    Code.CANCELLED: FailureReason.CANCELED,
    Code.INTERNAL: FailureReason.BACKEND,
}


class ServerFailure(Enum):
    """What a server elsewhere did with a call that it did not answer, by our own label values.

    `unreachable` there was no connection, `refused` it would not take it, `late` it did not answer
    before the deadline, `failed` anything else that was not the caller's fault.
    """

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    LATE = "late"
    FAILED = "failed"


class BuildState(Enum):
    """What became of the accelerator that is built aside for a version, by our own label values.

    `building` the version serves without it meanwhile, `in_use` it took over, `refused` it failed
    or answered otherwise, and the version goes on without it.
    """

    BUILDING = "building"
    IN_USE = "in_use"
    REFUSED = "refused"


# What a version sums up over requests: the members of `inference_stats`, by their names there.
DURATIONS: Final = (
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
)


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in total, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count one occurrence of `ns` nanoseconds."""
        self.count += 1
        self.ns += ns

    def add_all(self, ns: Sequence[int]) -> None:
        """Count one occurrence of each of so many nanoseconds."""
        self.count += len(ns)
        self.ns += sum(ns)

    def merge(self, other: "Duration") -> None:
        """Count what `other` has counted as well."""
        self.count += other.count
        self.ns += other.ns


class Histogram:
    """Counts of values by upper bound (inclusive), the last bucket having none; and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0

    def add(self, value: int) -> None:
        """Count `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add_all(self, values: Sequence[int]) -> None:
        """Count each of `values`."""
        bounds, counts = self.bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.sum += sum(values)

    def merge(self, other: "Histogram") -> None:
        """Count what `other` has counted as well, whose bounds are the same."""
        self.counts = [
            mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)
        ]
        self.sum += other.sum


@dataclass(slots=True)
class BatchStatistics:
    """Executions of one batch size (rows)."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)

    def merge(self, other: "BatchStatistics") -> None:
        """Count what `other` has counted as well."""
        _merge(self, other, BatchStatistics.__slots__)


@dataclass(slots=True)
class ResponseStatistics:
    """What decoupled models have sent in one place among the responses to a request.

    `success` and what follows it count the outcomes: a response, an error in its place, the end
    with no response, and a client that has gone; the phases are those of responses and errors.
    """

    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    empty_response: Duration = field(default_factory=Duration)
    cancel: Duration = field(default_factory=Duration)

    def succeeded(self, infer: int, output: int) -> None:
        """Count a response."""
        self.compute_infer.add(infer)
        self.compute_output.add(output)
        self.success.add(infer + output)

    def failed(self, infer: int) -> None:
        """Count an error."""
        self.compute_infer.add(infer)
        self.fail.add(infer)

    def empty(self, infer: int) -> None:
        """Count an end."""
        self.compute_infer.add(infer)
        self.empty_response.add(infer)

    def merge(self, other: "ResponseStatistics") -> None:
        """Count what `other` has counted as well."""
        _merge(self, other, ResponseStatistics.__slots__)


@dataclass(slots=True)
class CacheStatistics:
    """The response cache as a whole; `size` and `used` in bytes, times in nanoseconds."""

    size: int
    used: int = 0
    entries: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    lookup_ns: int = 0
    insertion_ns: int = 0


@dataclass(slots=True)
class ServerStatistics:
    """A server elsewhere that executes models for this process, as it is seen from here.

    `outstanding` are the calls that it has not answered yet; `calls` and `failures` count since it
    was found.
    """

    address: str
    is_reachable: bool = False
    is_ready: bool = False
    outstanding: int = 0
    calls: int = 0
    failures: dict[ServerFailure, int] = field(
        default_factory=lambda: dict.fromkeys(ServerFailure, 0)
    )


def _durations() -> Histogram:
    return Histogram(DURATION_BOUNDS)


class Success(NamedTuple):
    """A request of `rows` rows from its arrival to its answer, in monotonic nanoseconds."""

    rows: int
    arrived: int
    answered: int
    timing: Timing


@dataclass(slots=True)
class VersionStatistics:
    """Everything counted of one model version since it was loaded.

    `inference_count` is in rows, `execution_count` in batches, `last_inference` in milliseconds of
    the Unix epoch (0: never), `pending` the requests that wait in the queue now, `caches` whether
    the configuration allows answers from the response cache, which count in `success` and
    `cache_hit` only, as Triton has it, `responses` those of decoupled models by their place.
    `first_response`, in milliseconds, and `summaries` are counted only where somebody has asked for
    them. `load_duration` is how long the load took, in nanoseconds; `tags` are further labels of
    the metrics. `wait` is how long a request that came now would wait until all before it have run,
    as far as is known (None where there is no queue), and `objective` within how long requests
    shall be answered (0: the model does not say), both in nanoseconds. `wasted_rows` and
    `wasted_ns` are of requests that nobody waited for any more when they had run. `acceleration` is
    None where no accelerator is built aside.
    """

    model: str
    version: str
    caches: bool = False
    inference_count: int = 0
    execution_count: int = 0
    last_inference: int = 0
    pending: int = 0
    wait: int | None = None
    objective: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    failures: dict[FailureReason, int] = field(
        default_factory=lambda: dict.fromkeys(FailureReason, 0)
    )
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    responses: dict[str, ResponseStatistics] = field(default_factory=dict)
    first_response: Histogram | None = None
    summaries: Summaries | None = None
    wasted_rows: int = 0
    wasted_ns: int = 0
    load_duration: int = 0
    acceleration: BuildState | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    request_histogram: Histogram = field(default_factory=_durations)
    queue_histogram: Histogram = field(default_factory=_durations)
    compute_histogram: Histogram = field(default_factory=_durations)
    rows_histogram: Histogram = field(default_factory=lambda: Histogram(ROWS_BOUNDS))

    def record_success(self, rows: int, total: int, timing: Timing) -> None:
        """Count a request of `rows` rows that was answered after `total` nanoseconds."""
        now = time.monotonic_ns()
        self.record_successes((Success(rows, now - total, now, timing),))

    def record_successes(self, answered: Sequence[Success]) -> None:
        """Count requests in the order in which they were answered, each as `record_success`."""
        rows, arrivals, ends, timings = zip(*answered, strict=True)
        totals = [end - arrival for arrival, end in zip(arrivals, ends, strict=True)]
        queues = [timing.queue for timing in timings]
        self.inference_count += sum(rows)
        ago = time.monotonic_ns() - ends[-1]
        self.last_inference = (time.time_ns() - ago) // 1_000_000
        self.success.add_all(totals)
        self.queue.add_all(queues)
        self.compute_input.add_all([timing.compute_input for timing in timings])
        self.compute_infer.add_all([timing.compute_infer for timing in timings])
        self.compute_output.add_all([timing.compute_output for timing in timings])
        self.request_histogram.add_all(totals)
        self.queue_histogram.add_all(queues)
        if self.summaries is not None:
            for total, timing in zip(totals, timings, strict=True):
                self.summaries.success(total, timing)

    def record_cache_hit(self, total: int) -> None:
        """Count a request that the response cache answered after `total` nanoseconds."""
        self.success.add(total)
        self.queue.add(0)
        self.cache_hit.add(total)
        self.request_histogram.add(total)
        self.queue_histogram.add(0)
        if self.summaries is not None:
            self.summaries.hit(total)

    def record_cache_miss(self, elapsed: int) -> None:
        """Count the `elapsed` nanoseconds that a lookup in vain and the insertion took."""
        self.cache_miss.add(elapsed)
        if self.summaries is not None:
            self.summaries.miss(elapsed)

    def record_failure(self, reason: FailureReason, total: int) -> None:
        """Count a request that got an error after `total` nanoseconds."""
        self.failures[reason] += 1
        self.fail.add(total)

    def record_execution(self, rows: int, timing: Timing) -> None:
        """Count one successful execution of a batch of `rows` rows."""
        self.execution_count += 1
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = BatchStatistics()
        batch.compute_input.add(timing.compute_input)
        batch.compute_infer.add(timing.compute_infer)
        batch.compute_output.add(timing.compute_output)
        self.rows_histogram.add(rows)
        self.compute_histogram.add(
            timing.compute_input + timing.compute_infer + timing.compute_output
        )

    def record_waste(self, rows: int, elapsed: int) -> None:
        """Count rows of an execution, and their share of its time, that were for nothing."""
        self.wasted_rows += rows
        self.wasted_ns += elapsed

    def response(self, place: int) -> ResponseStatistics:
        """What is counted of the responses in that place, from 0; far ones are counted together."""
        key = str(min(place, MAX_PLACES - 1))
        found = self.responses.get(key)
        if found is None:
            found = self.responses[key] = ResponseStatistics()
        return found

    def record_first_response(self, elapsed: int) -> None:
        """Count the first response to a request, after `elapsed` nanoseconds."""
        if self.first_response is not None:
            self.first_response.add(elapsed // 1_000_000)

    def merge(self, other: "VersionStatistics") -> None:
        """Count what `other` has counted as well, before; its summaries are of no last minute."""
        self.inference_count += other.inference_count
        self.execution_count += other.execution_count
        self.last_inference = max(self.last_inference, other.last_inference)
        self.wasted_rows += other.wasted_rows
        self.wasted_ns += other.wasted_ns
        for reason, count in other.failures.items():
            self.failures[reason] += count
        for rows, batch in other.batches.items():
            self.batches.setdefault(rows, BatchStatistics()).merge(batch)
        for place, response in other.responses.items():
            self.responses.setdefault(place, ResponseStatistics()).merge(response)
        # Of another configuration, which asked for other buckets, nothing can be told in these.
        mine, theirs = self.first_response, other.first_response
        if mine is not None and theirs is not None and mine.bounds == theirs.bounds:
            mine.merge(theirs)
        _merge(self, other, _MERGED)

    def add(self, other: "VersionStatistics") -> None:
        """Count what `other` counts as well, now, in another process."""
        self.merge(other)
        self.pending += other.pending
        # A request goes where it waits least.
        waits = [wait for wait in (self.wait, other.wait) if wait is not None]
        self.wait = min(waits, default=None)
        self.load_duration = max(self.load_duration, other.load_duration)
        builds = {self.acceleration, other.acceleration}
        self.acceleration = next((state for state in _TOLD_FIRST if state in builds), None)


# Of builds in several processes, the one that most concerns whoever looks.
_TOLD_FIRST: Final = (BuildState.REFUSED, BuildState.BUILDING, BuildState.IN_USE)
_MERGED: Final = (
    *DURATIONS,
    "request_histogram",
    "queue_histogram",
    "compute_histogram",
    "rows_histogram",
)


def _merge(mine: Any, other: Any, names: Iterable[str]) -> None:
    for name in names:
        getattr(mine, name).merge(getattr(other, name))
