"""One candidate after the other, loaded and measured from the outside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from serving.bench import inputs
from serving.bench.inputs import Sample
from serving.bench.model import describe
from serving.bench.plan import Protocol, Step, Target
from serving.bench.report.live import Live
from serving.bench.report.text import share
from serving.bench.result import StepResult
from serving.bench.run import Run, run
from serving.bench.server import server as asked
from serving.bench.slo import Objective
from serving.config import Proto
from serving.tune.bench_server import BenchServer
from serving.tune.candidates import Candidate
from serving.tune.choice import Point

_WARM_UP: Final = 0.5  # seconds, or as long as it is measured
_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What each candidate is asked; `duration` in seconds for each number of connections.

    `objectives` begin with the latency that is tuned for; `rows` are those of a request, whose
    inputs are of `data`: random, zero or a file.
    """

    connections: Sequence[int]
    duration: float
    rows: int
    shapes: Mapping[str, tuple[int, ...]]
    objectives: Sequence[Objective]
    data: str = "random"


class Measurement:
    """Loads a candidate and puts it under each load; `begin` and `end` are told of each."""

    def __init__(
        self,
        server: BenchServer,
        config: Proto,
        load: Load,
        begin: Callable[[Candidate | None], None],
        end: Callable[[Sequence[Point]], None],
    ) -> None:
        self._server = server
        self._config = config
        self._load = load
        self._begin = begin
        self._end = end

    def __call__(self, candidate: Candidate | None) -> list[Point]:
        """A point for each load; Failed if the model does not load this way."""
        self._begin(candidate)
        self._server.load(candidate and candidate.apply(self._config))
        points = [self._point(candidate, step) for step in self._steps()]
        self._end(points)
        return points

    def _steps(self) -> Sequence[StepResult]:
        load = self._load
        target = Target(Protocol.BINARY, self._server.host, self._server.port, self._config.name)
        server = asked(target)
        model = describe(server.model(), server.config(), load.rows, load.shapes, ())
        warm_up = min(_WARM_UP, load.duration)
        plan = Run(
            target=target,
            model=model,
            # What a file says of outputs holds for one precision only.
            samples=[Sample(each.inputs) for each in inputs.samples(load.data, model)],
            outputs=(),
            timeout=None,
            steps=[
                Step(each, duration=load.duration, warm_up=warm_up, timeout=_TIMEOUT)
                for each in load.connections
            ],
            objectives=load.objectives,
            processes=1,
            channels=1,
            data=load.data,
            command="tune",
        )
        silent = Live(Console(quiet=True, force_terminal=False), len(plan.steps))
        return run(plan, server, silent, lambda: False).steps

    def _point(self, candidate: Candidate | None, result: StepResult) -> Point:
        return Point(
            candidate,
            result.step.in_flight,
            result.throughput,
            result.latency(self._load.objectives[0].name) if result.answered else float("inf"),
            result.passed,
            _failure(result),
        )


def _failure(result: StepResult) -> str:
    if not result.failed:
        return ""
    status, message = next(iter(result.failures))  # the most frequent one
    return f"{share(result.errors)} of the requests failed; {status}: {message}"
