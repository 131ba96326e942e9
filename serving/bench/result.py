"""What was measured, in figures: seconds, requests per second, shares of 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from serving.bench import slo
from serving.bench.client import histogram
from serving.bench.client.histogram import COARSE, Histogram
from serving.bench.client.tally import Failure, Tally
from serving.bench.plan import Step, Target
from serving.bench.slo import Objective, Verdict
from serving.bench.split import Split

PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9)
# Where the distribution is drawn: as far as there are answers to tell.
_DISTRIBUTION: Final = (
    *(float(percent) for percent in range(0, 90, 5)),
    *(90 + tenth for tenth in np.arange(0, 9, 1.0).tolist()),
    *(99 + tenth for tenth in np.arange(0, 0.9, 0.1).tolist()),
    *(99.9, 99.92, 99.94, 99.96, 99.98, 99.99, 99.995, 99.999, 99.9999),
)


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a step; latencies in seconds, 0 where nothing was answered."""

    begin: float
    length: float
    answered: int
    failed: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Client:
    """What the measuring processes say of themselves; times in seconds.

    `cpu` is the share of a processor that each used. `late` is how late requests of an open loop
    were sent, `lag` how late the event loop was, `held_back` how many waited as too many others
    were under way.
    """

    cpu: tuple[float, ...]
    late: Mapping[str, float]
    lag: Mapping[str, float]
    held_back: int


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step; `latencies` has `mean`, `min`, `max` and those percentiles that there are.

    `throughput` counts right answers that came while the step was measured. `goodput` counts right
    answers within the latency of the objectives, of requests that were due then; it is 0 without
    such an objective. `server` and `timings` are the server's own account.
    """

    step: Step
    rows: int
    elapsed: float
    answered: int
    failed: int
    throughput: float
    goodput: float
    latencies: Mapping[str, float]
    distribution: Sequence[tuple[float, float]]
    failures: Mapping[Failure, int]
    windows: Sequence[Window]
    client: Client
    server: Split | None
    timings: Mapping[str, Mapping[str, float]]
    is_complete: bool
    silent_for: float
    verdicts: Sequence[Verdict] = ()
    warnings: Sequence[str] = ()

    @property
    def errors(self) -> float:
        """The share of requests without a right answer."""
        return self.failed / max(self.answered + self.failed, 1)

    @property
    def passed(self) -> bool:
        """Whether all objectives are met; without any, whether anything was answered at all."""
        return self.answered > 0 and all(verdict.met for verdict in self.verdicts)

    def latency(self, name: str) -> float:
        """A figure of `latencies`, by name."""
        return self.latencies.get(name, self.latencies["max"])


@dataclass(frozen=True, slots=True)
class Result:
    """All steps of a run, whom it asked, and on what it ran; `began` is in seconds of Unix time."""

    target: Target
    steps: Sequence[StepResult]
    objectives: Sequence[Objective]
    server: Mapping[str, Any]
    client: Mapping[str, Any]
    inputs: Mapping[str, Sequence[int]]
    data: str
    command: str
    began: float
    processes: int
    is_complete: bool

    @property
    def passed(self) -> bool:
        """Whether every step that was run meets every objective."""
        return bool(self.steps) and all(step.passed for step in self.steps)


def of(
    step: Step,
    tally: Tally,
    objectives: Sequence[Objective],
    rows: int,
    server: Split | None,
    is_complete: bool,
) -> StepResult:
    """The figures of a tally, without verdicts and warnings, which follow from them."""
    good = slo.good_within(objectives)
    latency = tally.latency
    named = {_name(percent): percent for percent in PERCENTILES} | {
        each.name: float(each.name[1:]) for each in objectives if each.name[0] == "p"
    }
    return StepResult(
        step=step,
        rows=rows,
        elapsed=tally.elapsed,
        answered=tally.answered,
        failed=tally.failed,
        throughput=tally.answered_in_time / max(tally.elapsed, 1e-9),
        goodput=latency.within(round(good * 1e9)) / max(tally.elapsed, 1e-9) if good else 0.0,
        latencies=_figures(latency, named),
        distribution=[
            (percent, latency.percentile(percent) / 1e9)
            for percent in _DISTRIBUTION
            if len(latency) >= slo.answers_for(percent)
        ],
        failures=dict(tally.failures.most_common()),
        windows=_windows(tally),
        client=Client(
            tuple(tally.cpu),
            _figures(tally.late, {"p99": 99.0}),
            _figures(tally.lag, {"p99": 99.0}),
            tally.held_back,
        ),
        server=server,
        timings={
            name: _figures(each, {"p50": 50.0, "p99": 99.0}) for name, each in tally.timings.items()
        },
        is_complete=is_complete,
        silent_for=tally.silent_for,
    )


def _name(percent: float) -> str:
    return f"p{percent:g}"


def _figures(counted: Histogram, percentiles: Mapping[str, float]) -> dict[str, float]:
    """Mean, extremes and the percentiles, in seconds; all 0 if nothing was counted."""
    smallest = counted.smallest if len(counted) else 0
    ends = {"mean": counted.mean / 1e9, "min": smallest / 1e9, "max": counted.largest / 1e9}
    return ends | {name: counted.percentile(percent) / 1e9 for name, percent in percentiles.items()}


def _windows(tally: Tally) -> list[Window]:
    """Those windows that lie in the measured time, or in which something was due."""
    windows = []
    for index, (counts, failed) in enumerate(zip(tally.windows, tally.failed_in, strict=True)):
        begin = index * tally.length
        answered = int(counts.sum())
        if begin < tally.elapsed or answered or failed:
            p50, p99 = (histogram.percentile(counts, COARSE, each) / 1e9 for each in (50.0, 99.0))
            length = min(tally.length, max(tally.elapsed - begin, 0.0)) or tally.length
            windows.append(Window(begin, length, answered, int(failed), p50, p99))
    return windows
