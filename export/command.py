"""`penstock export`: a checkpoint that passes the gates becomes a version in a repository."""

from pathlib import Path
from typing import Any

import click

from export import options
from export.errors import ExportError
from export.job import MAX_BATCH_SIZE, OPSET, OPSETS, PARTS, Job, Tolerance
from training.data.files import DATA_VARIABLE
from training.errors import TrainingError


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@options.place("the checkpoint's recipe")
@click.option(
    "--max-batch-size",
    type=click.IntRange(min=1),
    show_default=f"that of the model's config.pbtxt, else {MAX_BATCH_SIZE}",
    help="Most rows in one execution.",
)
@click.option(
    "--part",
    type=click.Choice(PARTS),
    show_default="the whole network",
    help="Part of the network to export as a model of its own; give it a --name.",
)
@click.option(
    "--opset",
    type=click.IntRange(*OPSETS),
    default=OPSET,
    show_default=True,
    help="Version of ONNX's operators.",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar=DATA_VARIABLE,
    show_envvar=True,
    show_default="none: the cache, then a download",
    help="Folder with the data that the checkpoint was tested on.",
)
@options.tolerance("ONNX Runtime and torch")
def export(absolute_tolerance: float, relative_tolerance: float, **others: Any) -> None:
    """Export CHECKPOINT, a folder written by `penstock train`, into a model repository.

    The served model takes raw input: preprocessing is part of the graph. It is published only if
    ONNX Runtime gives what torch gives, at every batch size, and is right on as many test samples
    as the checkpoint states. Its passport says what was measured.
    """
    job = Job(**others, tolerance=Tolerance(absolute_tolerance, relative_tolerance))
    # Only now: torch takes seconds to load, and `--help` shall not wait for it.
    from export import pipeline
    from export.report import Report

    try:
        with Report(pipeline.STEPS) as report:
            published = pipeline.export(job, report.step)
    except (ExportError, TrainingError) as error:
        raise click.ClickException(str(error)) from error
    report.summary(published)
