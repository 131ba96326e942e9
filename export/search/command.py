"""`penstock search`: which network for a recipe, how large, and trained how."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.errors import ExportError
from training import durable, options
from training.catalog import RECIPES, load_dataset
from training.command import BY_RECIPE
from training.config import TrainConfig, changed
from training.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from export.search.run import Budget


@click.command()
@click.argument("recipe", metavar="RECIPE", type=click.Choice(list(RECIPES)))
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Networks to train in all, those of earlier runs among them.",
)
@click.option(
    "--minutes",
    type=options.Number(min=0, min_open=True),
    show_default="no limit",
    help="No new network is begun after so long; the same command goes on later.",
)
@click.option(
    "--max-latency",
    metavar="MICROSECONDS",
    type=options.Number(min=0, min_open=True),
    show_default="no limit",
    help="What the winner may take at most for one sample.",
)
@options.epochs("Passes over the training data, for each network.", BY_RECIPE.partition(",")[0])
@options.seed("The same one for all.")
@options.device("Where to train; latency is measured on the CPU.")
@options.data_dir()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="runs/RECIPE-search",
    help="Folder of the search; one that was stopped goes on.",
)
def search(
    recipe: str,
    trials: int,
    minutes: float | None,
    max_latency: float | None,
    data_dir: Path | None,
    output: Path | None,
    **changes: Any,
) -> None:
    """Search the layers, widths, activations, optimisers and learning rates of RECIPE for networks
    that are right and fast: by a tenth of the training samples, which is held out, and by the
    latency of the exported graph in ONNX Runtime at batch 1.

    The winner is the most accurate that --max-latency admits. It is trained once more, on all of
    the training data, and written as a checkpoint."""
    from export.search.run import Budget
    from export.search.space import space

    try:
        config = changed(RECIPES[recipe].config, **changes)
        space(RECIPES[recipe])
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    budget = Budget(trials, math.inf if minutes is None else 60 * minutes)
    try:
        folder = output or Path("runs", f"{recipe}-search")
        _search(recipe, config, budget, max_latency or math.inf, data_dir, folder)
    except (ExportError, TrainingError) as error:
        raise click.ClickException(str(error)) from error


def _search(
    recipe: str,
    config: TrainConfig,
    budget: "Budget",
    max_latency: float,
    data_dir: Path | None,
    folder: Path,
) -> None:
    from contextlib import closing

    from export.search import picture
    from export.search.report import Report
    from export.search.run import PICTURE, TABLE, WINNER, Search
    from export.search.space import told
    from export.search.study import front, winner
    from training.report import result

    dataset = load_dataset(RECIPES[recipe].dataset, data_dir)
    accuracy = bool(dataset.labels)
    with (
        closing(Search(recipe, config, dataset, folder)) as found,
        Report(budget.trials, config.epochs, accuracy) as report,
    ):
        report.heading(len(found.outcomes()))
        found.run(budget, report)
        outcomes = found.outcomes()
        chosen = winner(outcomes, max_latency)
        if chosen is None:
            within = "" if math.isinf(max_latency) else f" within {max_latency:g} µs"
            raise TrainingError(f"none of {len(outcomes)} networks answers{within}: search longer")
        report.front(front(outcomes))
        title = f"{recipe}: {len(outcomes)} networks"
        _write(folder / PICTURE, picture.draw(title, outcomes, chosen, accuracy))
        _write(folder / TABLE, picture.table(outcomes).encode())
        report.trains()
        checkpoint = found.train(chosen, report)
    report.say(
        f"\n{recipe}: {result(checkpoint.metrics)}, trial {chosen.number}: {told(chosen.point)}\n"
        f"checkpoint  {folder / WINNER}\n"
        f"picture     {folder / PICTURE}\n"
        f"table       {folder / TABLE}\n"
        f"next        penstock export {shlex.quote(str(folder / WINNER))}"
    )


def _write(path: Path, data: bytes) -> None:
    try:
        with durable.replacing(path) as draft:
            durable.write(draft, data)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error.strerror})") from error
