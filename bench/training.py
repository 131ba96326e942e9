"""How long recipes train until they are as good as they have to be, on this machine.

    python -m bench.training digits-mlp binary-mlp mnist-mlp
    python -m bench.training --runs 5 --save training

Without names it trains every recipe that has a bar, for hours without a GPU. The data are found as
`penstock train` finds them. Each run has a seed of its own and all epochs of its recipe; the bar is
passed at the first epoch behind which the accuracy on the whole test set is not below it. Seconds
are those of the epochs, tests included, without what comes before the first.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Final

import torch
from rich.console import Console

from bench.record import FACTS, RESULTS, provenance
from bench.report import Sheet
from training import loop
from training.catalog import RECIPES, load_dataset
from training.config import DEVICES
from training.curve import Epoch
from training.errors import TrainingError
from training.provenance import versions

# Accuracy on the test set.
BARS: Final = {
    "digits-mlp": 0.98,
    "binary-mlp": 0.90,
    "mnist-mlp": 0.983,
    "mnist-cnn": 0.995,
    "fashion-cnn": 0.935,
    "cifar10-cnn": 0.74,
    "cifar10-resnet": 0.92,  # on a CPU
    "binary-cnn": 0.93,
    "sst2-rnn": 0.78,
    "sst2-gru": 0.81,
    "sst2-lstm": 0.82,
    "sst2-bilstm": 0.83,
    "imdb-lstm": 0.88,
    "imdb-transformer": 0.88,
    "agnews-transformer": 0.91,
    "corner4x4-mlp": 1.0,
    "corner4x4-cnn": 1.0,
}
WIDTH: Final = 150  # of what goes to no terminal
HEADINGS: Final = (
    *("recipe", "bar", "runs", "passed", "epochs to the bar", "seconds to the bar"),
    *("epochs in all", "seconds in all", "accuracy at the end"),
)
CAPTION: Final = (
    "Means over runs of different seeds, ± their standard deviation; to the bar, over those that "
    "passed it."
)


@dataclass(frozen=True, slots=True)
class Run:
    recipe: str
    seed: int
    history: tuple[Epoch, ...]

    @property
    def passed(self) -> int | None:
        """Behind how many epochs the bar was, if ever."""
        bar = BARS[self.recipe]
        return next((row.epoch for row in self.history if (row.test_accuracy or 0) >= bar), None)

    def seconds(self, epochs: int) -> float:
        return sum(row.seconds for row in self.history[:epochs])

    @property
    def accuracy(self) -> float:
        return self.history[-1].test_accuracy or 0.0

    def __str__(self) -> str:
        epochs = self.passed
        bar = f"{BARS[self.recipe]:.1%}"
        to_bar = (
            f"{bar} behind epoch {epochs}, {self.seconds(epochs):.1f} s"
            if epochs
            else f"never {bar}"
        )
        return f"{self.recipe}, seed {self.seed}: {to_bar}; {self.accuracy:.2%} at the end"


def train(recipe: str, seed: int, device: str, data_dir: Path | None) -> Run:
    history: list[Epoch] = []
    known = RECIPES[recipe]
    config = replace(known.config, seed=seed, device=device)
    dataset = load_dataset(known.dataset, data_dir)
    loop.train(recipe, config, dataset, on_epoch=history.append)
    return Run(recipe, seed, tuple(history))


def sheet(runs: Sequence[Run]) -> Sheet:
    """A row for each recipe."""
    names = list(dict.fromkeys(run.recipe for run in runs))
    rows = [_row(name, [run for run in runs if run.recipe == name]) for name in names]
    return Sheet("Training to the bar", HEADINGS, rows, CAPTION)


def _row(name: str, runs: Sequence[Run]) -> list[str]:
    passed = [(run, run.passed) for run in runs]
    to_bar = [(float(epochs), run.seconds(epochs)) for run, epochs in passed if epochs is not None]
    return [
        name,
        f"{BARS[name]:.1%}",
        str(len(runs)),
        str(len(to_bar)),
        _spread([epochs for epochs, _ in to_bar], 1),
        _spread([seconds for _, seconds in to_bar], 2),
        _spread([float(len(run.history)) for run in runs], 0),
        _spread([run.seconds(len(run.history)) for run in runs], 2),
        f"{_spread([100 * run.accuracy for run in runs], 2)} %",
    ]


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    deviation = f" ± {stdev(values):.{digits}f}" if len(set(values)) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def where(device: str) -> dict[str, Any]:
    """On what was trained, beside what load, by which versions."""
    facts = provenance()
    gpu = torch.cuda.get_device_name() if device == "cuda" else "none"
    told = {name: facts[name] for name in FACTS}
    used = ", ".join(" ".join(each) for each in versions().items())
    return {**told, "GPU": gpu, "threads": torch.get_num_threads(), "versions": used}


def save(runs: Sequence[Run], facts: dict[str, Any], name: str, folder: Path) -> None:
    """NAME.json with every epoch, NAME.md with the table."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**facts, "bars": BARS, "runs": [asdict(run) for run in runs]}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    listed = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    text = "\n".join(("# How long recipes train\n", listed, "", sheet(runs).markdown()))
    (folder / f"{name}.md").write_text(text)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=", ".join(BARS))
    parser.add_argument("--runs", type=int, default=3, help="seeds for each (default: 3)")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--save", metavar="NAME", help=f"write {RESULTS.name}/NAME.json and .md")
    asked = parser.parse_args(given)
    asked.recipes = asked.recipes or list(BARS)
    if unknown := [name for name in asked.recipes if name not in BARS]:
        parser.error(f"no bar is set for {unknown[0]}; there are: {', '.join(BARS)}")
    if asked.runs < 1:
        parser.error("--runs must be at least 1")
    return asked


def main(given: Sequence[str] | None = None) -> None:
    asked = arguments(given)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    facts = where(loop.pick_device(asked.device))  # the load before ours is added to it
    console.print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    runs = []
    try:
        for recipe in asked.recipes:
            for seed in range(asked.runs):
                runs.append(train(recipe, seed, asked.device, asked.data_dir))
                console.print(str(runs[-1]))
    except TrainingError as error:
        raise SystemExit(f"{recipe}: {error}") from error
    console.print(sheet(runs).drawn())
    if asked.save:
        save(runs, facts, asked.save, RESULTS)


if __name__ == "__main__":
    main()
