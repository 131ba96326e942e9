"""What is said of a search: the Pareto front as a table, and the reasons for the choice."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from rich.table import Table

from serving.tune.candidates import Candidate
from serving.tune.choice import Point, best, nearest, pareto


def name(candidate: Candidate | None) -> str:
    """How a candidate is called in tables."""
    return "as configured" if candidate is None else str(candidate)


def milliseconds(point: Point) -> str:
    """Its latency; a dash where nothing was answered."""
    return f"{1000 * point.latency:.2f} ms" if isfinite(point.latency) else "-"


def table(points: Sequence[Point], chosen: Point | None, objective: str) -> Table:
    """The Pareto front, the fastest answers first; what is chosen has a mark."""
    shown = Table(box=None, header_style="bold")
    for title in ("", "served by", "connections", "answers/s", objective.partition("=")[0], ""):
        shown.add_column(title, justify="left" if title in ("", "served by") else "right")
    for point in pareto(points):
        shown.add_row(
            ">" if point == chosen else "",
            name(point.candidate),
            str(point.connections),
            f"{point.throughput:,.0f}",
            milliseconds(point),
            "" if point.is_good else "fails" if point.failure else f"misses {objective}",
        )
    return shown


def reasons(points: Sequence[Point], chosen: Point | None, objective: str) -> list[str]:
    """Why this one, in sentences."""
    if chosen is None:
        point = nearest(points)
        by = f"{name(point.candidate)} with {_connections(point)}"
        if point.failure:
            # Which says nothing of how fast the machine is.
            return [f"Everything that was tried has failures. {by}: {point.failure}"]
        return [
            f"Nothing that was tried meets {objective}: the nearest, {by}, takes "
            f"{milliseconds(point)}. Allow more time, take a smaller model, or a faster machine."
        ]
    said = [
        f"{name(chosen.candidate)}: {chosen.throughput:,.0f} answers/s within {objective} "
        f"({1000 * chosen.latency:.2f} ms) at {_connections(chosen)}."
    ]
    now = best([point for point in points if point.candidate is None])
    if chosen.candidate is None:
        said.append("The configuration stays: nothing else gave more answers than noise explains.")
    elif now is None:
        asked = nearest([point for point in points if point.candidate is None])
        said.append(
            f"As configured, with {_connections(asked)}: {asked.failure}"
            if asked.failure
            else f"The configuration as it is misses {objective} at every load."
        )
    else:
        said.append(
            f"As configured: {now.throughput:,.0f} answers/s ({1000 * now.latency:.2f} ms) at "
            f"{_connections(now)}; that is {chosen.throughput / now.throughput:.2f} times as many."
        )
    return said + _costs(points, chosen)


def _costs(points: Sequence[Point], chosen: Point) -> list[str]:
    """What the most throughput of all would have cost in latency."""
    most = max(points, key=lambda point: point.throughput)
    if most.is_good or most.throughput <= chosen.throughput:
        return []
    cost = most.failure or f"takes {milliseconds(most)}."
    return [
        f"{name(most.candidate)} gives {most.throughput:,.0f} answers/s at {_connections(most)}, "
        f"but {cost}"
    ]


def document(points: Sequence[Point], chosen: Point | None, about: dict[str, Any]) -> Any:
    """All of it for machines; latencies in seconds."""
    front = pareto(points)
    return about | {
        "chosen": None if chosen is None else _line(chosen, front),
        "points": [_line(point, front) for point in points],
    }


def _line(point: Point, front: Sequence[Point]) -> dict[str, Any]:
    candidate = point.candidate
    served = candidate and {
        "instances": candidate.instances,
        "threads": candidate.threads,
        "max_batch_size": candidate.rows,
        "max_queue_delay_microseconds": candidate.delay,
    }
    return {
        "candidate": served,
        "connections": point.connections,
        "throughput": point.throughput,
        "latency": point.latency if isfinite(point.latency) else None,
        "failure": point.failure,
        "meets_objective": point.is_good,
        "is_pareto": point in front,
    }


def _connections(point: Point) -> str:
    return f"{point.connections} connection{'s' if point.connections > 1 else ''}"
