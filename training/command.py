"""`penstock train`: a recipe by its name, with the defaults that matter open to change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from training import options
from training.catalog import RECIPES, load_dataset
from training.config import (
    ACTIVATIONS,
    INITS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    TrainConfig,
    changed,
)
from training.data.files import CACHE_VARIABLE
from training.errors import ConfigError, DivergenceError, TrainingError

BY_RECIPE = "by recipe, see above"


def _help() -> str:
    rows = [("recipe", "epochs", "batch", "lr", "what it trains")]
    for name, recipe in RECIPES.items():
        config = recipe.config
        figures = (f"{config.epochs}", f"{config.batch_size}", f"{config.lr:g}")
        rows.append((name, *figures, recipe.summary))
    table = (f"{name:<20}{a:>6}{b:>7}{c:>7}  {what}" for name, a, b, c, what in rows)
    paragraphs = (
        "Train RECIPE and write a checkpoint: weights, record and learning curve.",
        "\n".join(("\b", "The recipes and their defaults:", *table)),
        "A data set is taken from --data-dir if that is given, else from the cache, else "
        f"downloaded into the cache ({CACHE_VARIABLE} moves it).",
    )
    return "\n\n".join(paragraphs)


@click.command(help=_help())
@click.argument("recipe", metavar="RECIPE", type=click.Choice(list(RECIPES)))
@options.epochs("Passes over the training data.", BY_RECIPE)
@click.option(
    "--batch-size",
    type=click.IntRange(min=2),
    show_default=BY_RECIPE,
    help="Samples per step; of gd's steps, those that are held in memory at a time.",
)
@click.option(
    "--lr",
    type=options.Number(min=0, min_open=True),
    show_default=BY_RECIPE,
    help="Peak learning rate.",
)
@click.option(
    "--optimizer",
    type=click.Choice(list(OPTIMIZERS)),
    show_default=BY_RECIPE,
    help="gd takes all samples for each step. Without --lr, its peak is the one that suits it.",
)
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    show_default=BY_RECIPE,
    help="How the learning rate changes on the way.",
)
@click.option(
    "--clip-norm",
    type=options.Number(min=0, min_open=True),
    show_default=BY_RECIPE,
    help="Longest that all gradients together may be.",
)
@click.option(
    "--clip-value",
    type=options.Number(min=0, min_open=True),
    show_default=BY_RECIPE,
    help="Largest that an element of a gradient may be.",
)
@click.option(
    "--init",
    type=click.Choice(INITS),
    show_default=BY_RECIPE,
    help="How weight matrices and kernels begin.",
)
@click.option(
    "--activation",
    type=click.Choice(ACTIVATIONS),
    show_default=BY_RECIPE,
    help="What follows each hidden layer; not all recipes have one to choose.",
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    show_default=BY_RECIPE,
    help="Stop after so many epochs without a better one, and keep the best: by a tenth of the "
    "training samples, which is held out. For schedules without an end, such as constant.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    show_default=BY_RECIPE,
    help="bf16: mixed precision, on a GPU.",
)
@click.option(
    "--compile",
    is_flag=True,
    default=None,
    show_default=BY_RECIPE,
    help="By torch.compile, on a GPU.",
)
@options.seed("On a CPU, runs with the same seed give the same weights, bit for bit.")
@options.device()
@options.data_dir()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="runs/RECIPE",
    help="Folder of the checkpoint; an older checkpoint there is replaced.",
)
@click.option(
    "--restart",
    is_flag=True,
    show_default="go on from the last epoch of an interrupted run",
    help="Begin anew where a run was interrupted.",
)
def train(
    recipe: str,
    activation: str | None,
    data_dir: Path | None,
    output: Path | None,
    restart: bool,
    **changes: Any,
) -> None:
    try:
        config = changed(RECIPES[recipe].config, **changes)
        architecture = RECIPES[recipe].with_activation(activation)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    try:
        _train(recipe, config, architecture, data_dir, output or Path("runs", recipe), restart)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error


def _train(
    recipe: str,
    config: TrainConfig,
    architecture: Mapping[str, int | float | str],
    data_dir: Path | None,
    output: Path,
    restart: bool,
) -> None:
    from training import checkpoint, loop, state

    checkpoint.check_writable(output)
    config = loop.on_device(config)
    unfinished = state.path_for(output)
    with state.held(unfinished):
        if restart:
            state.remove(unfinished)
        _train_alone(recipe, config, architecture, data_dir, output)


def _train_alone(
    recipe: str,
    config: TrainConfig,
    architecture: Mapping[str, int | float | str],
    data_dir: Path | None,
    output: Path,
) -> None:
    from training import checkpoint, loop, state
    from training.report import Report

    unfinished = state.path_for(output)
    dataset = load_dataset(RECIPES[recipe].dataset, data_dir)
    try:
        with Report(config, loop.batches_per_epoch(len(dataset.train_x), config)) as report:
            trained, model = loop.train(
                recipe,
                config,
                dataset,
                report.batch,
                report.epoch,
                architecture=architecture,
                state=unfinished,
                on_resume=report.resume,
            )
    except DivergenceError:
        state.remove(unfinished)
        raise
    except KeyboardInterrupt:
        if unfinished.exists():
            click.echo("The same command goes on behind the last epoch.", err=True)
        raise
    checkpoint.save(output, trained, model)
    state.remove(unfinished)
    report.summary(trained, output)
