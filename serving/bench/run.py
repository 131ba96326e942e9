"""A run: its steps one after the other, between two looks at the server's statistics each."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from serving.bench import result
from serving.bench.client import messages
from serving.bench.client.fleet import Fleet, Watch, fleet
from serving.bench.client.supply import Sequences, Supply, Turns
from serving.bench.client.worker import Job
from serving.bench.doubts import doubts
from serving.bench.environment import environment
from serving.bench.inputs import Sample
from serving.bench.model import DEFAULT_IDLE, Model
from serving.bench.plan import Step, Target
from serving.bench.report.live import Live
from serving.bench.result import Result, StepResult
from serving.bench.server import Server, Unanswered
from serving.bench.slo import Objective, judge
from serving.bench.split import split


@dataclass(frozen=True, slots=True)
class Run:
    """All that is to be done; `data` and `command` say where the inputs and the wish come from.

    `outputs` are asked for by name, none means all. `timeout` in seconds is told to the server.
    `sequence_length` is how many requests make a sequence; 0: they belong to none.
    """

    target: Target
    model: Model
    samples: Sequence[Sample]
    outputs: Sequence[str]
    timeout: float | None
    steps: Sequence[Step]
    objectives: Sequence[Objective]
    processes: int
    channels: int
    data: str
    command: str
    sequence_length: int = 0


def run(plan: Run, server: Server, live: Live, is_interrupted: Callable[[], bool]) -> Result:
    """Do it; an interruption leaves out the steps that did not begin.

    Raises Unsuitable, Unanswered before anything was sent, and fleet.Died.
    """
    expected = [sample.expected for sample in plan.samples]
    job = Job(plan.target, plan.model, _supply(plan), expected, plan.channels)
    about = server.metadata()
    began = time.time()
    steps: list[StepResult] = []
    with live, fleet(job, plan.processes) as clients:
        for step in plan.steps:
            if is_interrupted():
                break
            live.begin(step)
            steps.append(_measure(plan, step, clients, server, live, is_interrupted))
            live.end(steps[-1])
    return Result(
        target=plan.target,
        steps=steps,
        objectives=plan.objectives,
        server=about,
        client=environment(),
        inputs={tensor.name: tensor.array.shape for tensor in plan.samples[0].inputs},
        data=plan.data,
        command=plan.command,
        began=began,
        processes=plan.processes,
        is_complete=not is_interrupted(),
    )


def _supply(plan: Run) -> Callable[[], Supply]:
    wanted = plan.target, plan.model, plan.samples, plan.outputs, plan.timeout
    if not plan.sequence_length:
        return partial(Turns, messages.encode(*wanted))
    # Half of what the server waits, as requests take their time to get there.
    patience = (plan.model.idle or DEFAULT_IDLE) // 2
    return partial(Sequences, messages.encode_steps(*wanted), plan.sequence_length, patience)


def _measure(
    plan: Run,
    step: Step,
    clients: Fleet,
    server: Server,
    live: Live,
    is_interrupted: Callable[[], bool],
) -> StepResult:
    before, after = _Look(server), _Look(server)
    tally = clients.run(step, Watch(live.tell, before, after, is_interrupted))
    measured = result.of(
        step,
        tally,
        plan.objectives,
        plan.model.rows or 1,
        split(before.seen, after.seen),
        is_complete=not is_interrupted(),
    )
    return replace(
        measured,
        verdicts=judge(plan.objectives, measured),
        warnings=doubts(measured, plan.objectives),
    )


class _Look:
    """Called once, looks at the statistics; a server that does not answer has none."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.seen: Any = None

    def __call__(self) -> None:
        with contextlib.suppress(Unanswered):
            self.seen = self._server.statistics()
