"""The learning curve: what the loop saw in each epoch, and its picture."""

import io
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of the history; accuracy is a fraction of 1."""

    epoch: int
    lr: float
    train_loss: float
    test_loss: float
    test_accuracy: float
    seconds: float


def draw(title: str, history: Sequence[Epoch]) -> bytes:
    """A PNG: losses on the left, test accuracy on the right."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row.epoch for row in history]
    accuracy = [100 * row.test_accuracy for row in history]
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    figure.suptitle(title, fontweight="bold")
    losses, accuracies = figure.subplots(1, 2)

    style = {"marker": "o", "markersize": 4}
    losses.plot(epochs, [row.train_loss for row in history], label="training", **style)
    losses.plot(epochs, [row.test_loss for row in history], label="test", **style)
    losses.set_title("Loss (cross-entropy)")
    losses.set_ylim(bottom=0)
    losses.legend(frameon=False)

    accuracies.plot(epochs, accuracy, color="tab:green", **style)
    accuracies.set_title(f"Test accuracy, % (last: {accuracy[-1]:.2f})")
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
