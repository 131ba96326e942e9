"""Reasons not to take the figures for the server's: the client's own limits, and thin evidence."""

from collections.abc import Iterator, Sequence
from typing import Final

from serving.bench.result import StepResult
from serving.bench.slo import Objective

_BUSY: Final = 0.9  # of a processor
_LATE: Final = 0.001  # seconds
_LAG: Final = 0.01  # seconds
_OF_LATENCY: Final = 0.1  # of the median latency
_HELD_BACK: Final = 0.001  # of the requests
_SILENCE: Final = 1.0  # seconds
_SPLIT: Final = 0.02


def doubts(result: StepResult, objectives: Sequence[Objective]) -> tuple[str, ...]:
    """One sentence for each reason, with the cure."""
    return (*_of_client(result), *_of_evidence(result, objectives))


def _of_client(result: StepResult) -> Iterator[str]:
    client, median = result.client, result.latency("p50")
    busiest = max(client.cpu, default=0.0)
    if busiest >= _BUSY:
        yield (
            f"the client used {busiest:.0%} of a processor: it may be what was measured; give it "
            "more --processes, or a machine of its own"
        )
    if client.late["p99"] > max(_LATE, _OF_LATENCY * median):
        yield (
            f"1 % of the requests were sent {_ms(client.late['p99'])} or more after they were due, "
            "as the client or its machine was too busy; their latency contains it"
        )
    if client.lag["p99"] > max(_LAG, _OF_LATENCY * median):
        yield (
            f"the client's event loop was late by {_ms(client.lag['p99'])} (p99), and so are its "
            "times of answers: its machine is too busy"
        )
    total = max(result.answered + result.failed, 1)
    if client.held_back / total > _HELD_BACK:
        yield (
            f"{client.held_back / total:.1%} of the requests waited in the client, as "
            f"{result.step.in_flight} were under way already (--max-in-flight); their latency "
            "contains it"
        )


def _of_evidence(result: StepResult, objectives: Sequence[Objective]) -> Iterator[str]:
    for objective in objectives:
        if 0 < result.answered < objective.least:
            yield (
                f"{result.answered} answers are too few for {objective.name}, which takes "
                f"{objective.least} at least; it is judged by the slowest"
            )
    if result.is_complete and result.silent_for > _SILENCE + result.latency("max"):
        yield f"no right answer came in the last {result.silent_for:.1f} s"
    seen = result.server.requests if result.server else 0
    ours = (result.answered + result.failed) * (1 + _SPLIT) + result.step.in_flight
    if result.step.duration and seen > ours:
        yield (
            f"the server answered {seen} requests for this model meanwhile, not only ours: its "
            "queue and compute times are those of all"
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2g} ms"
