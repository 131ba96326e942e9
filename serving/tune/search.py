"""Which candidates are measured: one stage after the other, each from the best of those before."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import median
from typing import Final

from serving.tune.candidates import Candidate, delays, layouts, sizes
from serving.tune.choice import Point, best, nearest

_ROUNDS: Final = 2  # beside the one of the search

Measure = Callable[[Candidate | None], Sequence[Point]]


def search(
    measure: Measure, processors: int, rows: int, objective: float, least: int = 1
) -> list[Point]:
    """All that was measured: what is configured now, then layouts, sizes of batches, and delays.

    A stage changes one thing of what was best until then; so a dozen measurements stand for the
    hundreds of all combinations. `rows` is the largest batch, 0 for a model that does not batch,
    and `least` the rows of a request, which a smaller one would refuse; `objective` in seconds.
    """
    points = list(measure(None))
    tried = _tried(measure, layouts(processors, rows))
    if rows:
        tried += _tried(measure, sizes(_leader(tried), least))
        tried += _tried(measure, delays(_leader(tried), objective))
    return points + tried


def confirm(measure: Measure, points: Sequence[Point]) -> tuple[list[Point], Point | None]:
    """The points, of two candidates made sure, and the one to take; None if none is good enough.

    The best of many noisy figures is too good to be true; so what leads and what is configured now
    are measured again, in turns, and the medians decide between them.
    """
    leader = best(points)
    if leader is None or leader.candidate is None:
        return list(points), leader
    rivals = [point for point in points if point.candidate in (None, leader.candidate)]
    others = [point for point in points if point not in rivals]
    for _ in range(_ROUNDS):
        for candidate in (None, leader.candidate):
            rivals += measure(candidate)
    sure = _medians(rivals)
    return sure + others, best(sure)


def _medians(points: Sequence[Point]) -> list[Point]:
    """One point for all measurements of the same; good where most of them were."""
    groups: dict[tuple[Candidate | None, int], list[Point]] = {}
    for point in points:
        groups.setdefault((point.candidate, point.connections), []).append(point)
    return [
        replace(
            group[0],
            throughput=median(point.throughput for point in group),
            latency=median(point.latency for point in group),
            is_good=2 * sum(point.is_good for point in group) > len(group),
            failure=next((point.failure for point in group if point.failure), ""),
        )
        for group in groups.values()
    ]


def _tried(measure: Measure, candidates: Iterable[Candidate]) -> list[Point]:
    return [point for candidate in candidates for point in measure(candidate)]


def _leader(points: Sequence[Point]) -> Candidate:
    """The best candidate until now; where none meets the objective, the one that comes nearest."""
    point = best(points) or nearest(points)
    assert point.candidate is not None
    return point.candidate
