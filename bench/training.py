"""How long recipes train until they are as good as they have to be, on this machine.

    python -m bench.training digits-mlp binary-mlp mnist-mlp
    python -m bench.training --runs 5 --save training

Without names it trains every recipe that has a bar, for hours without a GPU. The data are found as
`penstock train` finds them. Each run has a seed of its own and all epochs of its recipe; the bar is
passed at the first epoch behind which the accuracy on the whole test set is not below it, or the
test loss in nats not above it. Seconds are those of the epochs, tests included, without what comes
before the first.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from bench.record import FACTS, RESULTS, provenance
from bench.report import Sheet, deviating
from training import loop
from training.catalog import RECIPES, load_dataset
from training.config import DEVICES
from training.curve import Epoch
from training.errors import TrainingError
from training.provenance import versions


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of right answers to come up to, or a loss in nats to come down to."""

    value: float
    in_nats: bool = False

    def __str__(self) -> str:
        return f"{self.value} nats" if self.in_nats else f"{self.value:.1%}"

    def of(self, row: Epoch) -> float:
        """What is held against it."""
        return row.test_loss if self.in_nats else row.test_accuracy or 0.0

    def passed_by(self, row: Epoch) -> bool:
        return self.of(row) <= self.value if self.in_nats else self.of(row) >= self.value

    def told(self, results: Sequence[float]) -> str:
        if self.in_nats:
            return f"{deviating(results, 3)} nats"
        return f"{deviating([100 * each for each in results], 2)} %"


BARS: Final = {
    "digits-mlp": Bar(0.98),
    "binary-mlp": Bar(0.90),
    "mnist-mlp": Bar(0.983),
    "mnist-cnn": Bar(0.995),
    "fashion-cnn": Bar(0.935),
    "cifar10-cnn": Bar(0.74),
    "cifar10-resnet": Bar(0.92),
    "binary-cnn": Bar(0.93),
    "sst2-rnn": Bar(0.78),
    "sst2-gru": Bar(0.81),
    "sst2-lstm": Bar(0.82),
    "sst2-bilstm": Bar(0.83),
    "imdb-lstm": Bar(0.88),
    "imdb-transformer": Bar(0.88),
    "agnews-transformer": Bar(0.91),
    "corner4x4-mlp": Bar(1.0),
    "corner4x4-cnn": Bar(1.0),
    "shakespeare-gpt": Bar(1.65, in_nats=True),
}
# Higher ones, of what trains on a GPU.
BARS_ON_GPUS: Final = {
    "cifar10-resnet": Bar(0.94),
    "shakespeare-gpt": Bar(1.55, in_nats=True),
}
WIDTH: Final = 150  # of what goes to no terminal
HEADINGS: Final = (
    *("recipe", "bar", "runs", "passed", "epochs to the bar", "seconds to the bar"),
    *("epochs in all", "seconds in all", "result at the end"),
)
CAPTION: Final = (
    "Means over runs of different seeds, ± their standard deviation; to the bar, over those that "
    "passed it."
)


@dataclass(frozen=True, slots=True)
class Run:
    recipe: str
    bar: Bar
    seed: int
    history: tuple[Epoch, ...]

    @property
    def passed(self) -> int | None:
        """Behind how many epochs the bar was, if ever."""
        return next((row.epoch for row in self.history if self.bar.passed_by(row)), None)

    def seconds(self, epochs: int) -> float:
        return sum(row.seconds for row in self.history[:epochs])

    @property
    def result(self) -> float:
        return self.bar.of(self.history[-1])

    def __str__(self) -> str:
        epochs = self.passed
        to_bar = (
            f"{self.bar} behind epoch {epochs}, {self.seconds(epochs):.1f} s"
            if epochs
            else f"never {self.bar}"
        )
        return (
            f"{self.recipe}, seed {self.seed}: {to_bar}; {self.bar.told([self.result])} at the end"
        )


def bars(device: str) -> dict[str, Bar]:
    """Those of each recipe that has one, trained there."""
    return BARS | BARS_ON_GPUS if device == "cuda" else BARS


def train(recipe: str, seed: int, device: str, data_dir: Path | None) -> Run:
    history: list[Epoch] = []
    known = RECIPES[recipe]
    config = replace(known.config, seed=seed, device=device)
    dataset = load_dataset(known.dataset, data_dir)
    loop.train(recipe, config, dataset, on_epoch=history.append)
    return Run(recipe, bars(device)[recipe], seed, tuple(history))


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
        str(runs[0].bar),
        str(len(runs)),
        str(len(to_bar)),
        deviating([epochs for epochs, _ in to_bar], 1),
        deviating([seconds for _, seconds in to_bar], 2),
        deviating([float(len(run.history)) for run in runs], 0),
        deviating([run.seconds(len(run.history)) for run in runs], 2),
        runs[0].bar.told([run.result for run in runs]),
    ]


def where(device: str) -> dict[str, Any]:
    """On what was trained, beside what load, by which versions."""
    import torch  # not before `training`, which says how its threads wait

    facts = provenance()
    gpu = torch.cuda.get_device_name() if device == "cuda" else "none"
    told = {name: facts[name] for name in FACTS}
    used = ", ".join(" ".join(each) for each in versions().items())
    return {**told, "GPU": gpu, "threads": torch.get_num_threads(), "versions": used}


def save(runs: Sequence[Run], facts: dict[str, Any], name: str, folder: Path) -> None:
    """NAME.json with every epoch, NAME.md with the table."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**facts, "runs": [asdict(run) for run in runs]}
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
    device = loop.pick_device(asked.device)
    facts = where(device)  # the load before ours is added to it
    console.print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    runs = []
    try:
        for recipe in asked.recipes:
            for seed in range(asked.runs):
                runs.append(train(recipe, seed, device, asked.data_dir))
                console.print(str(runs[-1]))
    except TrainingError as error:
        raise SystemExit(f"{recipe}: {error}") from error
    console.print(sheet(runs).drawn())
    if asked.save:
        save(runs, facts, asked.save, RESULTS)


if __name__ == "__main__":
    main()
