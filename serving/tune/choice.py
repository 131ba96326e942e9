"""What was measured of the candidates, and which of them is to be taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from serving.tune.candidates import Candidate

# What two measurements of the same differ by on a machine that is not quiet.
NOISE: Final = 0.03


@dataclass(frozen=True, slots=True)
class Point:
    """One load on one candidate; None stands for the configuration as it is.

    `throughput` is in answers per second, `latency` in seconds: the figure of the objective,
    infinite where nothing was answered. `failure` says of the requests that failed, if any did, how
    many they were and why.
    """

    candidate: Candidate | None
    connections: int
    throughput: float
    latency: float
    is_good: bool
    failure: str = ""

    @property
    def cost(self) -> tuple[int, int, int]:
        """As `Candidate.cost`; what is there already costs nothing."""
        return self.candidate.cost if self.candidate else (0, 0, 0)


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that none beats in throughput and in latency at once, the slowest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.latency, -point.throughput)):
        if not front or point.throughput > front[-1].throughput:
            front.append(point)
    return front


def best(points: Sequence[Point]) -> Point | None:
    """The most throughput within the objective; of about equal ones the one that takes least.

    None if no point meets the objective.
    """
    good = [point for point in points if point.is_good]
    if not good:
        return None
    most = max(point.throughput for point in good)
    near = [point for point in good if point.throughput >= (1 - NOISE) * most]
    return min(near, key=lambda point: (point.cost, point.latency))


def nearest(points: Sequence[Point]) -> Point:
    """Where no point meets the objective: the least latency, of those without failures if any."""
    return min(points, key=lambda point: (bool(point.failure), point.latency))
