"""One recipe trained in several ways, side by side: what each came to, and one picture of all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training import loop
from training.catalog import RECIPES
from training.config import ACTIVATIONS, INITS, OPTIMIZERS, TrainConfig, changed
from training.curve import Epoch, png, tidy
from training.data.dataset import Dataset
from training.errors import DivergenceError


@dataclass(frozen=True, slots=True)
class Run:
    """`history` ends where the loss was no number any more."""

    name: str
    history: tuple[Epoch, ...]
    diverged: bool


def compare(
    what: str,
    recipe: str,
    config: TrainConfig,
    dataset: Dataset,
    on_run: Callable[[Run], None] = lambda _: None,
) -> list[Run]:
    """Trains once with each of what there is, all else being equal, the seed as well; only a
    learning rate goes with its optimiser."""
    runs = []
    for name in ways(what):
        runs.append(_run(what, name, recipe, config, dataset))
        on_run(runs[-1])
    return runs


def ways(what: str) -> Sequence[str]:
    """`optimizers`, `activations` or `inits`, by name."""
    return {"optimizers": list(OPTIMIZERS), "activations": ACTIVATIONS, "inits": INITS}[what]


def _run(what: str, name: str, recipe: str, config: TrainConfig, dataset: Dataset) -> Run:
    architecture = None
    if what == "optimizers":
        config = changed(config, optimizer=name)
    elif what == "inits":
        config = changed(config, init=name)
    else:
        architecture = RECIPES[recipe].with_activation(name)
    history: list[Epoch] = []
    try:
        loop.train(recipe, config, dataset, on_epoch=history.append, architecture=architecture)
    except DivergenceError:
        return Run(name, tuple(history), diverged=True)
    return Run(name, tuple(history), diverged=False)


def draw(title: str, runs: Sequence[Run]) -> bytes:
    """A PNG: the training and the test loss of all runs, and the test accuracy if there is any."""
    from matplotlib.figure import Figure

    panels: dict[str, Callable[[Epoch], float]] = {
        "Training loss": lambda row: row.train_loss,
        "Test loss": lambda row: row.test_loss,
    }
    if any(row.test_accuracy is not None for run in runs for row in run.history):
        panels["Test accuracy, %"] = lambda row: 100 * (row.test_accuracy or 0.0)
    figure = Figure(figsize=(5 * len(panels), 4.2), dpi=120, layout="constrained")
    figure.suptitle(title, fontweight="bold")
    for axes, (name, value) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for run in runs:
            label = f"{run.name} (diverged)" if run.diverged else run.name
            epochs = [row.epoch for row in run.history]
            axes.plot(epochs, [value(row) for row in run.history], label=label, marker=".")
        axes.set_title(name)
        tidy(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", frameon=False)
    return png(figure)
