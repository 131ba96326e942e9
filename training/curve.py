"""The learning curve: what the loop saw in each epoch, and its picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of the history; accuracy is a fraction of 1, None where nothing is right or wrong."""

    epoch: int
    lr: float
    train_loss: float
    test_loss: float
    test_accuracy: float | None
    seconds: float
    # Of what is held out of the training data, where anything is.
    validation_loss: float | None = None
    validation_accuracy: float | None = None


def draw(title: str, history: Sequence[Epoch]) -> bytes:
    """A PNG: the losses, and beside them the test accuracy where there is one."""
    from matplotlib.figure import Figure

    accuracy = [100 * row.test_accuracy for row in history if row.test_accuracy is not None]
    epochs = [row.epoch for row in history]
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    figure.suptitle(title, fontweight="bold")
    panels = figure.subplots(1, 2 if accuracy else 1, squeeze=False)[0]
    style: dict[str, Any] = {"marker": "o", "markersize": 4}
    panels[0].plot(epochs, [row.train_loss for row in history], label="training", **style)
    panels[0].plot(epochs, [row.test_loss for row in history], label="test", **style)
    panels[0].set_title("Loss")
    panels[0].set_ylim(bottom=0)
    panels[0].legend(frameon=False)
    if accuracy:
        panels[1].plot(epochs, accuracy, color="tab:green", **style)
        panels[1].set_title(f"Test accuracy, % (last: {accuracy[-1]:.2f})")
    for axes in panels:
        tidy(axes)
    return png(figure)


def tidy(axes: Any) -> None:
    """Epochs along a quiet frame."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: "Figure") -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()
