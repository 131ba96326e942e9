"""What was measured: a curve for each server, a point for each load; and the promise."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Final

from bench.generator import REFUSALS
from serving.bench.client.tally import Tally

PROMISED_LOAD: Final = 2.0
PROMISED_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Point:
    """One server under one load, `load` times its saturation; times in seconds, rates per second.

    `goodput` counts answers within the objective of requests that were due while it was measured.
    `p50` and `p99` are of what was not refused; without an answer it took for ever. `refused` and
    `lost` (given up after the timeout, or failed) are shares of all requests. `cpu` is the share of
    the servers' processor that the server used, `others` what others did; `late` is how late the
    generator sent (p99).
    """

    load: float
    rate: float
    seconds: float
    requests: int
    goodput: float
    refused: float
    lost: float
    p50: float
    p99: float
    late: float
    cpu: float = 0.0
    others: float = 0.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One server under all loads; `saturation` is what it answers a second when never idle."""

    name: str
    title: str
    saturation: float
    points: Sequence[Point]

    @property
    def peak(self) -> float:
        """The best goodput under any load."""
        return max(point.goodput for point in self.points)

    def at(self, load: float) -> Point:
        """The point that comes nearest to that load."""
        return min(self.points, key=lambda point: abs(point.load - load))

    def kept(self, load: float) -> float:
        """Goodput at that load as a share of the best."""
        return self.at(load).goodput / max(self.peak, 1e-9)

    def keeps_promise(self, objective: float) -> bool:
        """Whether goodput stays, and what is accepted is in time, at twice the saturation."""
        point = self.at(PROMISED_LOAD)
        return self.kept(PROMISED_LOAD) >= PROMISED_SHARE and point.p99 <= objective


def point(load: float, rate: float, tally: Tally, objective: float) -> Point:
    """The figures of a tally; `objective` in seconds."""
    refused = sum(n for failure, n in tally.failures.items() if failure.status in REFUSALS)
    lost = tally.failed - refused
    requests = tally.answered + tally.failed
    return Point(
        load=load,
        rate=rate,
        seconds=tally.elapsed,
        requests=requests,
        goodput=tally.latency.within(round(objective * 1e9)) / tally.elapsed,
        refused=refused / max(requests, 1),
        lost=lost / max(requests, 1),
        p50=_percentile(tally, lost, 50),
        p99=_percentile(tally, lost, 99),
        late=tally.late.percentile(99) / 1e9,
    )


def _percentile(tally: Tally, lost: int, percent: float) -> float:
    """Of all that was not refused, in seconds; what was lost took longer than any answer."""
    accepted = tally.answered + lost
    share = percent * accepted / max(tally.answered, 1)
    return tally.latency.percentile(share) / 1e9 if share <= 100 else inf


def milliseconds(seconds: float) -> str:
    """A time as it is shown."""
    return f"{1000 * seconds:,.1f}" if isfinite(seconds) else "never"
