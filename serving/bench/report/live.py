"""What is seen while a run goes on: a line that moves in a terminal, or a line for each step."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from serving.bench.client.fleet import Standing
from serving.bench.plan import Step
from serving.bench.report.text import load_name, milliseconds, rate, share
from serving.bench.result import StepResult


class Live:
    """Shows the steps of a run, one after the other; a context, in which the line moves."""

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._number = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", figures="", start=False)
        self._step: Step | None = None
        self._answered = 0
        self._at = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, step: Step) -> None:
        """A step is about to begin."""
        self._step, self._answered, self._at = step, 0, 0.0
        self._number += 1
        total = float(step.requests) if step.requests else step.warm_up + step.duration
        self._progress.reset(
            self._task,
            total=total,
            description=f"[{self._number}/{self._steps}] {load_name(step)}",
            figures="warming up",
        )

    def tell(self, standing: Standing, seconds: float) -> None:
        """So far has the step come, that many seconds after its measurement began."""
        assert self._step
        step = self._step
        done = standing.answered + standing.failed
        if seconds > self._at:
            per_second = (standing.answered - self._answered) / (seconds - self._at)
            self._answered, self._at = standing.answered, seconds
            recent = standing.recent
            figures = (
                f"{rate(per_second)}/s  p50 {milliseconds(recent.percentile(50) / 1e9)}  p99 "
                f"{milliseconds(recent.percentile(99) / 1e9)}  {standing.under_way} under way  "
                f"{share(standing.failed / max(done, 1))} errors"
            )
            self._progress.update(self._task, figures=figures)
        completed = done if step.requests else min(seconds, step.duration) + step.warm_up
        self._progress.update(self._task, completed=completed)

    def end(self, result: StepResult) -> None:
        """A step has been measured."""
        if not self._console.is_terminal:
            p50, p99 = (
                milliseconds(result.latency(name)) if result.answered else "-"
                for name in ("p50", "p99")
            )
            self._console.print(
                f"[{self._number}/{self._steps}] {load_name(result.step)}: "
                f"{rate(result.throughput)}/s, p50 {p50}, p99 {p99}, {share(result.errors)} errors",
                highlight=False,
                markup=False,
            )
