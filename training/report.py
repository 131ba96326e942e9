"""What the person at the terminal sees of a training run."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from training.checkpoint import CURVE, Checkpoint
from training.config import TrainConfig
from training.curve import Epoch
from training.interrupts import Interrupts

COLUMNS = "{:>7}{:>10}{:>12}{:>12}{:>15}{:>10}"
HEADER = COLUMNS.format("epoch", "lr", "train loss", "test loss", "test accuracy", "seconds")
HELD_OUT = "{:>12}"  # one column more, where samples are held out

FIRST = ("test_accuracy", "test_mse")  # a summary begins with the one or the other


class Report:
    """A progress bar over the batches of an epoch, and above it one line for each epoch done.

    While it is entered, no Ctrl-C is lost.
    """

    def __init__(self, config: TrainConfig, batches: int) -> None:
        self._epochs, self._patience = config.epochs, config.patience
        self._interrupts = Interrupts()
        self._console = Console(highlight=False, soft_wrap=True, markup=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("epoch 1", total=batches)

    def __enter__(self) -> "Report":
        held_out = "" if self._patience is None else HELD_OUT.format("held out")
        self._console.print(HEADER + held_out, style="bold")
        self._interrupts.__enter__()
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._interrupts.__exit__()

    def batch(self) -> None:
        self._interrupts.check()
        self._progress.advance(self._task)

    def resume(self, epochs: int) -> None:
        self._console.print(f"going on behind epoch {epochs} of an interrupted run")
        self._progress.reset(self._task, description=f"epoch {epochs + 1}")

    def epoch(self, row: Epoch) -> None:
        line = COLUMNS.format(
            f"{row.epoch}/{self._epochs}",
            f"{row.lr:.5f}",
            f"{row.train_loss:.4f}",
            f"{row.test_loss:.4f}",
            _percent(row.test_accuracy, "-"),
            f"{row.seconds:.1f}",
        )
        if row.validation_loss is not None:
            line += HELD_OUT.format(_percent(row.validation_accuracy, f"{row.validation_loss:.4f}"))
        self._console.print(line)
        self._progress.reset(self._task, description=f"epoch {row.epoch + 1}")

    def summary(self, checkpoint: Checkpoint, output: Path) -> None:
        metrics = checkpoint.metrics
        if "best_epoch" in metrics:
            self._console.print(f"\nkept the weights of epoch {metrics['best_epoch']}, the best")
        self._console.print(
            f"\n{checkpoint.recipe}: {result(metrics)}, {metrics['parameters']:,} parameters, "
            f"trained in {metrics['training_seconds']:.1f} s on {checkpoint.config.device}\n"
            f"checkpoint  {output}\n"
            f"curve       {output / CURVE}\n"
            f"next        penstock export {shlex.quote(str(output))}"
        )


def _percent(share: float | None, otherwise: str) -> str:
    return otherwise if share is None else f"{100 * share:.2f} %"


def result(metrics: Mapping[str, int | float]) -> str:
    """What a model came to on the test set, in words."""
    tested = f"of {metrics['test_n']:,} test samples"
    if "test_accuracy" in metrics:
        first = f"{100 * metrics['test_accuracy']:.2f} % {tested} right"
    elif "test_nats" in metrics:
        first = f"{metrics['test_nats']:.4f} nats per token {tested}"
    elif "test_bleu" in metrics:
        first = f"BLEU {metrics['test_bleu']:.2f} {tested}"
    elif "test_frechet" in metrics:
        first = f"a Fréchet distance of {metrics['test_frechet']:.4g} to the pixels {tested}"
    else:
        first = f"mean squared error {metrics['test_mse']:.4g} {tested}"
    others = [name for name in metrics if name.endswith(("_auc", "_mse", "_accuracy"))]
    more = [f"{name} {metrics[name]:.4g}" for name in others if name not in FIRST]
    return ", ".join((first, *more))
