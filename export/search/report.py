"""What the person at the terminal sees of a search."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from export.search.run import Listener
from export.search.space import told
from export.search.study import Outcome
from training.curve import Epoch
from training.interrupts import Interrupts

COLUMNS = "{:>5}{:>12}{:>9}  {}"


class Report(Listener):
    """One line for each trial that has ended, and a bar over the epochs of the one that runs."""

    def __init__(self, trials: int, epochs: int, accuracy: bool) -> None:
        self._trials, self._epochs, self._accuracy = trials, epochs, accuracy
        self._console = Console(highlight=False, soft_wrap=True, markup=False)
        self._interrupts = Interrupts()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=epochs)

    def __enter__(self) -> "Report":
        self._interrupts.__enter__()
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._interrupts.__exit__()

    def say(self, text: str) -> None:
        self._console.print(text)

    def heading(self, ended: int) -> None:
        if ended:
            self.say(f"going on behind trial {ended}")
        quality = "accuracy" if self._accuracy else "loss"
        self._console.print(COLUMNS.format("trial", quality, "µs", "point"), style="bold")

    def begins(self, ended: int) -> None:
        self._progress.reset(self._task, description=f"trial {ended + 1} of {self._trials}")

    def trains(self) -> None:
        self.say("training the winner on all of the training data")
        self._progress.reset(self._task, description="winner")

    def epoch(self, row: Epoch) -> None:
        self._progress.advance(self._task)

    def batch(self) -> None:
        self._interrupts.check()

    def front(self, outcomes: Sequence[Outcome]) -> None:
        """Those that no other beats in both."""
        self.say("\nPareto front")
        for each in outcomes:
            self.ends(each)

    def ends(self, outcome: Outcome) -> None:
        if outcome.failure:
            figures = (outcome.failure, "-")
        elif self._accuracy:
            figures = (f"{100 * (1 - outcome.error):.2f} %", f"{outcome.latency:.0f}")
        else:
            figures = (f"{outcome.error:.5f}", f"{outcome.latency:.0f}")
        self.say(COLUMNS.format(outcome.number, *figures, told(outcome.point)))
