"""How far a run is: a line that moves in a terminal, and a line for each point."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.overload.curves import Point, milliseconds
from serving.bench.client.fleet import Standing


class Live:
    """Shows one load after the other; a context, in which the line moves."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._console = console
        self._title = ""
        self._seconds = 0.0
        self._task = self._progress.add_task("", figures="")

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

    def begin(self, title: str, seconds: float) -> None:
        """Something begins that takes about so long."""
        self._title, self._seconds = title, seconds
        self._progress.update(
            self._task, description=title, completed=0, total=seconds or None, figures=""
        )

    def tell(self, standing: Standing, seconds: float) -> None:
        """So far has a load come, so many seconds after its measurement began."""
        recent = standing.recent
        figures = (
            f"{standing.answered} answered, {standing.failed} not, {standing.under_way} under way, "
            f"p99 {recent.percentile(99) / 1e6:.1f} ms"
        )
        done = min(max(seconds, 0.0), self._seconds)
        self._progress.update(self._task, completed=done, figures=figures)

    def end(self, point: Point) -> None:
        """A point is there."""
        self._console.print(
            f"{self._title}: {point.goodput:,.0f}/s in time, {point.refused:.0%} refused, "
            f"{point.lost:.0%} lost, p99 {milliseconds(point.p99)} ms",
            markup=False,
        )
