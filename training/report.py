"""What the person at the terminal sees of a training run."""

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

FIRST = ("test_accuracy", "test_mse")  # a summary begins with the one or the other


class Report:
    """A progress bar over the batches of an epoch, and above it one line for each epoch done.

    While it is entered, no Ctrl-C is lost.
    """

    def __init__(self, config: TrainConfig, batches: int) -> None:
        self._epochs = config.epochs
        self._interrupts = Interrupts()
        self._console = Console(highlight=False, soft_wrap=True)
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
        self._console.print(HEADER, style="bold")
        self._interrupts.__enter__()
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._interrupts.__exit__()

    def batch(self) -> None:
        self._interrupts.check()
        self._progress.advance(self._task)

    def epoch(self, row: Epoch) -> None:
        self._console.print(
            COLUMNS.format(
                f"{row.epoch}/{self._epochs}",
                f"{row.lr:.5f}",
                f"{row.train_loss:.4f}",
                f"{row.test_loss:.4f}",
                "-" if row.test_accuracy is None else f"{100 * row.test_accuracy:.2f} %",
                f"{row.seconds:.1f}",
            )
        )
        self._progress.reset(self._task, description=f"epoch {row.epoch + 1}")

    def summary(self, checkpoint: Checkpoint, output: Path) -> None:
        metrics = checkpoint.metrics
        self._console.print(
            f"\n{checkpoint.recipe}: {_result(metrics)}, {metrics['parameters']:,} parameters, "
            f"trained in {metrics['training_seconds']:.1f} s on {checkpoint.config.device}\n"
            f"checkpoint  {output}\n"
            f"curve       {output / CURVE}\n"
            f"next        penstock export {output}"
        )


def _result(metrics: Mapping[str, int | float]) -> str:
    tested = f"of {metrics['test_n']:,} test samples"
    if "test_accuracy" in metrics:
        first = f"{100 * metrics['test_accuracy']:.2f} % {tested} right"
    elif "test_nats" in metrics:
        first = f"{metrics['test_nats']:.4f} nats per token {tested}"
    else:
        first = f"mean squared error {metrics['test_mse']:.4g} {tested}"
    others = [name for name in metrics if name.endswith(("_auc", "_mse", "_accuracy"))]
    more = [f"{name} {metrics[name]:.4g}" for name in others if name not in FIRST]
    return ", ".join((first, *more))
