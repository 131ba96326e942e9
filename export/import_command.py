"""`penstock import`: an ONNX file of any origin that passes the gates becomes a version."""

from pathlib import Path
from typing import Any

import click

from export import options
from export.errors import ExportError
from export.job import MAX_BATCH_SIZE, MOST_ROWS, RUN_TIMEOUT, ImportJob, Tolerance
from training.options import Number


@click.command("import")
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.place("the file's")
@click.option(
    "--max-batch-size",
    type=click.IntRange(0, MOST_ROWS),
    show_default=f"that of the model's config.pbtxt, else {MAX_BATCH_SIZE}, or 0 where rows "
    "depend on each other",
    help="Most rows in one execution; 0 for a model that shall not batch.",
)
@options.sample("An")
@click.option(
    "--run-timeout",
    type=Number(min=0, max=1e6, min_open=True),
    default=RUN_TIMEOUT,
    show_default=True,
    help="Seconds that one run of the model may take.",
)
@options.tolerance("a row in a batch and the row alone")
def import_(
    model: Path, absolute_tolerance: float, relative_tolerance: float, **others: Any
) -> None:
    """Import MODEL, an ONNX file, into a model repository.

    It is published, with the files of its weights, only if it is valid, ONNX Runtime has all of its
    operators, and it runs. Its rows are tried alone and in batches: a model that mixes them is
    published with max_batch_size 0. Its passport says what was measured.
    """
    tolerance = Tolerance(absolute_tolerance, relative_tolerance)
    job = ImportJob(model, **others, tolerance=tolerance)
    from export import importing
    from export.report import Report

    try:
        with Report(importing.STEPS) as report:
            published = importing.import_model(job, report.step)
    except ExportError as error:
        raise click.ClickException(str(error)) from error
    report.summary(published)
