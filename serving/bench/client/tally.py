"""What one process, or all of them together, have counted in one step."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.bench.client import histogram
from serving.bench.client.histogram import COARSE, Durations, Histogram

WINDOWS: Final = 120  # a step is looked at in at most that many pieces
_LENGTH: Final = 0.5  # seconds of a window, until there are too many
_CHUNK: Final = 1024  # answers that are kept one by one before they are counted
_KINDS: Final = 100  # different failures that are told apart


class Failure(NamedTuple):
    """Why a request has no right answer: `status` such as `HTTP 503`, and what was said."""

    status: str
    message: str


OTHERS: Final = Failure("others", "failures of many further kinds")


@dataclass(slots=True)
class Tally:
    """Counts of the requests that were due while a step was measured.

    `latency`    of right answers, from when they were due
    `failures`   why the other requests had none
    `windows`    counts by window of `length` seconds and bucket of a coarse histogram
    `failed_in`  failures by window
    `answered_in_time`  right answers that came while the step was measured, whenever due
    `late`       how long after it was due a request was sent, if nothing but the client delayed it
    `held_back`  requests that waited because too many were under way
    `lag`        by how much the event loop missed the times of a regular alarm
    `timings`    durations that the server stated of its answers, by name
    `elapsed`    the measured seconds; `cpu` of them this process spent computing
    `silent_for` seconds at the end of the measurement without any right answer
    """

    length: float = _LENGTH
    latency: Histogram = field(default_factory=Histogram)
    failures: Counter[Failure] = field(default_factory=Counter)
    windows: NDArray[np.int32] = field(
        default_factory=lambda: np.zeros((WINDOWS, histogram.size(COARSE)), np.int32)
    )
    failed_in: NDArray[np.int32] = field(default_factory=lambda: np.zeros(WINDOWS, np.int32))
    answered_in_time: int = 0
    late: Histogram = field(default_factory=lambda: Histogram(COARSE))
    held_back: int = 0
    lag: Histogram = field(default_factory=lambda: Histogram(COARSE))
    timings: dict[str, Histogram] = field(default_factory=dict)
    elapsed: float = 0.0
    cpu: list[float] = field(default_factory=list)
    silent_for: float = 0.0

    @property
    def answered(self) -> int:
        """Right answers."""
        return len(self.latency)

    @property
    def failed(self) -> int:
        """Requests without one."""
        return self.failures.total()

    def widen(self) -> None:
        """Make windows twice as long, each of two."""
        half = WINDOWS // 2
        for counts in (self.windows, self.failed_in):
            counts[:half] = counts[::2] + counts[1::2]
            counts[half:] = 0
        self.length *= 2

    def merge(self, other: "Tally") -> None:
        """Count what another process has counted in the same step; `other` is used up."""
        while self.length < other.length:
            self.widen()
        while other.length < self.length:
            other.widen()
        for name in ("latency", "late", "lag"):
            getattr(self, name).merge(getattr(other, name))
        for name, timing in other.timings.items():
            self.timings.setdefault(name, Histogram(timing.bits)).merge(timing)
        self.failures.update(other.failures)
        self.windows += other.windows
        self.failed_in += other.failed_in
        self.answered_in_time += other.answered_in_time
        self.held_back += other.held_back
        self.silent_for = min(self.silent_for, other.silent_for) if self.cpu else other.silent_for
        self.elapsed = max(self.elapsed, other.elapsed)
        self.cpu += other.cpu


class Recorder:
    """Counts into a tally, a chunk at a time: counting one by one would cost as much as sending.

    `begin` is when the measurement begins; all times are nanoseconds.
    """

    def __init__(self, tally: Tally, begin: int) -> None:
        self.tally = tally
        self.recent = Histogram(COARSE)
        self._begin = begin
        self._due: list[int] = []
        self._took: list[int] = []
        self._late: list[int] = []
        self._lag: list[int] = []
        self._timings: dict[str, list[int]] = {}

    def answer(self, due: int, took: int) -> None:
        """A right answer `took` nanoseconds after its request was due."""
        self._due.append(due)
        self._took.append(took)
        if len(self._took) >= _CHUNK:
            self.flush()

    def late(self, late: int) -> None:
        """A request was sent `late` nanoseconds after it was due."""
        self._late.append(late)

    def failure(self, due: int, failure: Failure) -> None:
        """A request has no right answer."""
        failures = self.tally.failures
        if failure not in failures and len(failures) >= _KINDS:
            failure = OTHERS
        failures[failure] += 1
        self.tally.failed_in[self._windows(np.array([due]))] += 1

    def lag(self, lag: int) -> None:
        """The event loop was `lag` nanoseconds late."""
        self._lag.append(lag)

    def timing(self, name: str, took: int) -> None:
        """The server says that a part of an answer took that long."""
        self._timings.setdefault(name, []).append(took)

    def flush(self) -> None:
        """Count all that has been kept."""
        took = np.array(self._took, np.int64)
        self.tally.latency.add(took)
        self.recent.add(took)
        if len(took):
            windows = self._windows(np.array(self._due, np.int64))
            np.add.at(self.tally.windows, (windows, histogram.buckets(took, COARSE)), 1)
        self.tally.late.add(np.array(self._late, np.int64))
        self.tally.lag.add(np.array(self._lag, np.int64))
        for name, values in self._timings.items():
            counted = self.tally.timings.setdefault(name, Histogram(COARSE))
            counted.add(np.array(values, np.int64))
        for kept in (self._due, self._took, self._late, self._lag, *self._timings.values()):
            kept.clear()

    def take_recent(self) -> Histogram:
        """The latencies since it was last called."""
        self.flush()
        recent, self.recent = self.recent, Histogram(COARSE)
        return recent

    def _windows(self, due: Durations) -> Durations:
        """The window of each time, after there are enough of them."""
        after = (due - self._begin).clip(0)
        while int(after.max()) >= WINDOWS * self.tally.length * 1e9:
            self.tally.widen()
        windows: Durations = after // int(self.tally.length * 1e9)
        return windows
