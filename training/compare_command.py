"""`penstock compare`: what a choice does to one recipe."""

from pathlib import Path
from typing import Any

import click

from training import durable, options
from training.catalog import RECIPES, load_dataset
from training.command import BY_RECIPE
from training.config import ACTIVATIONS, changed
from training.errors import ConfigError, TrainingError

KINDS = ("optimizers", "activations", "inits")
COLUMNS = "{:<12}{:>12}{:>12}{:>15}{:>10}"


@click.command()
@click.argument("what", metavar=f"[{'|'.join(KINDS)}]", type=click.Choice(KINDS))
@click.argument("recipe", metavar="RECIPE", type=click.Choice(list(RECIPES)))
@options.epochs("Passes over the training data, for each.", BY_RECIPE.partition(",")[0])
@options.seed("The same one for all.")
@options.device()
@options.data_dir()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    show_default="runs/RECIPE-WHAT.png",
    help="The picture.",
)
def compare(
    what: str, recipe: str, data_dir: Path | None, output: Path | None, **changes: Any
) -> None:
    """Train RECIPE with every optimiser, activation or initialisation there is, and draw one
    picture of all; each optimiser has the learning rate that suits it."""
    try:
        config = changed(RECIPES[recipe].config, **changes)
        if what == "activations":
            RECIPES[recipe].with_activation(ACTIVATIONS[0])
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    from training import compare as comparison
    from training.compare import Run

    def row(run: Run) -> None:
        click.echo(_row(run.name, run))

    path = output or Path("runs", f"{recipe}-{what}.png")
    try:
        with durable.replacing(path) as picture:  # now, and not after hours of training
            click.echo(COLUMNS.format(what, "train loss", "test loss", "test accuracy", "seconds"))
            dataset = load_dataset(RECIPES[recipe].dataset, data_dir)
            runs = comparison.compare(what, recipe, config, dataset, row)
            title = f"{recipe}: {what}, seed {config.seed}"
            durable.write(picture, comparison.draw(title, runs))
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be written ({error.strerror})") from error
    click.echo(f"picture     {path}")


def _row(name: str, run: Any) -> str:
    if run.diverged:
        return f"{name:<12}{'diverged':>12}"
    last = run.history[-1]
    accuracy = "-" if last.test_accuracy is None else f"{100 * last.test_accuracy:.2f} %"
    seconds = sum(row.seconds for row in run.history)
    return COLUMNS.format(
        name, f"{last.train_loss:.4f}", f"{last.test_loss:.4f}", accuracy, f"{seconds:.1f}"
    )
