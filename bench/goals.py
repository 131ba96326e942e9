"""What the data plane is held to, and what a run found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench import cases
from bench.contestants import RAW, Window
from bench.lineup import (
    COMMITTED,
    FASTAPI,
    FEW,
    FEW_CONNECTIONS,
    MANY,
    MANY_CONNECTIONS,
    MAPPED,
    OURS,
    TRITON,
)
from bench.windows import Result, Spread

FAIR: Final = (FEW_CONNECTIONS, 128, MANY_CONNECTIONS)

Results = Mapping[tuple[str, int], Result]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A goal, and what was found; `cost` is the same by processor time, where that makes sense."""

    goal: str
    wanted: float
    at_least: bool
    found: Spread
    cost: Spread | None = None
    unit: str = "x"

    @property
    def met(self) -> bool:
        """By the median."""
        return self._holds(self.found)

    @property
    def met_by_cost(self) -> bool:
        """Whether it would be, were requests/s as processor time has them."""
        return self.cost is not None and self._holds(self.cost)

    def _holds(self, spread: Spread) -> bool:
        found = spread.median
        return found >= self.wanted if self.at_least else found <= self.wanted


def throughput(window: Window) -> float:
    """Right answers a second."""
    return window.throughput


def cost(window: Window) -> float:
    """Seconds of the server's processor time for a request."""
    return window.cost


def outcomes(results: Sequence[Result], starts: Mapping[str, Sequence[float]]) -> list[Outcome]:
    """Of all goals that the run has figures for."""
    measured = {(result.case.kind, result.case.connections): result for result in results}
    found = [*_speed(measured), *_latency(measured), *_scale(measured)]
    if COMMITTED in starts:
        spread = Spread.of(starts[COMMITTED])
        found.append(Outcome("start to first inference", 2.0, False, spread, unit=" s"))
    return found


def _speed(measured: Results) -> Iterator[Outcome]:
    for kind, connections, own, name, factor in (
        (cases.BINARY, 32, OURS, FASTAPI, 7.0),
        (cases.BINARY, 32, OURS, TRITON, 1.8),
        (cases.BINARY, 32, OURS, RAW, 0.5),
        (cases.JSON, 32, OURS, FASTAPI, 4.5),
        (cases.JSON, 32, OURS, TRITON, 1.5),
        (cases.GRPC, 32, OURS, TRITON, 1.2),
        (cases.LARGE_BINARY, 1, OURS, RAW, 0.7),
        (cases.LARGE_GRPC, 1, OURS, RAW, 0.7),
        (cases.LARGE_SHARED, 1, OURS, RAW, 0.7),
        (cases.LARGE_SHARED, 1, MAPPED, RAW, 0.7),
    ):
        result = measured.get((kind, connections))
        if result and {own, name} <= result.windows.keys():
            yield Outcome(
                f"{result.case}: {own} over {name}",
                factor,
                True,
                result.ratio(own, name, throughput),
                result.ratio(name, own, cost),
            )


def _latency(measured: Results) -> Iterator[Outcome]:
    alone = measured.get((cases.BINARY, 1))
    if alone and {OURS, RAW} <= alone.windows.keys():
        pairs = zip(alone.windows[OURS], alone.windows[RAW], strict=True)
        added = Spread.of([1e6 * (one.p50 - other.p50) for one, other in pairs])
        yield Outcome(f"{alone.case}: p50 over raw", 130, False, added, unit=" us")
    for (kind, connections), result in measured.items():
        if kind in cases.SMALL and connections in FAIR and OURS in result.windows:
            tail = result.spread(OURS, lambda window: window.p99 / (window.p50 or 1))
            yield Outcome(f"{result.case}: p99 over p50", 3.0, False, tail)


def _scale(measured: Results) -> Iterator[Outcome]:
    for kind in cases.SMALL:
        result = measured.get((kind, MANY_CONNECTIONS))
        if result and {OURS, FEW} <= result.windows.keys():
            goal = f"{kind}: cost at {MANY_CONNECTIONS} over {FEW_CONNECTIONS} connections"
            yield Outcome(goal, 1.1, False, result.ratio(OURS, FEW, cost))
    for (kind, _), result in measured.items():
        if kind == cases.MODELS and {OURS, MANY} <= result.windows.keys():
            grown = result.ratio(MANY, OURS, cost)
            yield Outcome("cost with 100 models over 2", 1.1, False, grown)
