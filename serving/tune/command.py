"""`penstock tune`: which configuration serves a model best on this machine."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from serving.bench import options, slo
from serving.bench.client.fleet import Died
from serving.bench.model import Unsuitable
from serving.bench.server import Unanswered
from serving.bench.slo import Objective
from serving.config import Proto, Refused, parse, to_text
from serving.threads import available_cpus
from serving.tune import report, variants
from serving.tune.bench_server import BenchServer, Failed, serving
from serving.tune.candidates import Candidate, layouts
from serving.tune.choice import Point
from serving.tune.measure import Load, Measurement
from serving.tune.search import confirm, search

_CONFIG: Final = "config.pbtxt"
_UNTUNED: Final = f"{_CONFIG}.untuned"
# How a configuration begins that was written by this command.
_CHOSEN: Final = "# Chosen by penstock tune"
_WIDTH: Final = 120


@click.command(context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.option(
    "--model-repository",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="model_repository",
    show_default=True,
    help="The folder with the model.",
)
@click.option(
    "--slo",
    "objective",
    type=options.OBJECTIVE,
    required=True,
    metavar="p99=10ms",
    help="The latency that answers must keep: p50…p99.99, mean or max.",
)
@click.option(
    "--concurrency",
    type=options.COUNTS,
    default="1,8,32",
    show_default=True,
    help="Connections, each of which asks again once it is answered: the loads to measure.",
)
@click.option(
    "--duration",
    type=options.POSITIVE_SECONDS,
    default="2s",
    show_default=True,
    help="How long each load is measured.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Rows of each request.",
)
@click.option(
    "--shape",
    "shapes",
    type=options.SHAPE,
    multiple=True,
    metavar="NAME:1,28,28",
    help="The dimensions, without the batch, of an input that has variable ones.",
)
@click.option(
    "--input-data",
    default="random",
    show_default=True,
    metavar="random|zero|FILE",
    help="What is sent: a .npz file of arrays, or perf_analyzer's .json.",
)
@click.option("--write", is_flag=True, help=f"Write the choice to the model's {_CONFIG}.")
@click.option(
    "--json", "json_file", type=options.NEW_FILE, help="Write all that was measured as JSON."
)
def tune(
    model: str,
    model_repository: Path,
    objective: Objective,
    concurrency: Sequence[int],
    write: bool,
    json_file: Path | None,
    **wishes: Any,
) -> None:
    """Measure how MODEL is best served on this machine: instances, threads, batches, delays.

    \b
    penstock tune mnist-cnn --slo p99=10ms
    penstock tune mnist-cnn --slo p99=10ms --concurrency 16,64 --write

    A server of its own serves the model in one way after the other, and is asked over REST with
    binary tensors. The table is the Pareto front: more answers per second cost latency. Chosen is
    what gives the most within the objective; it is measured again beside the present configuration
    before anything is said of it. Variants of the model in other precisions (`penstock export
    --variants`) are then measured as the choice is served. Nothing else should run on the machine
    meanwhile.

    The exit code is 0 if the objective can be met, 1 if not, and 2 for wrong usage.
    """
    if not objective.is_latency:
        raise click.UsageError(f"--slo {objective.text}: expected a latency, such as p99=10ms")
    if model not in os.listdir(model_repository):
        raise click.UsageError(f"{model_repository}: there is no model {model!r} in it")
    folder = model_repository / model
    if write and not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"--write: {folder} cannot be written into")
    load = Load(
        connections=concurrency,
        duration=wishes["duration"],
        rows=wishes["batch_size"],
        shapes=dict(wishes["shapes"]),
        objectives=slo.complete([objective]),
        data=wishes["input_data"],
    )
    try:
        with serving(str(model_repository), model) as server:
            config = _suitable(model, server.config(), load)
            points, chosen = _tune(server, config, load)
    except (Unsuitable, Refused) as error:
        raise click.UsageError(str(error)) from error
    except (Failed, Unanswered, Died) as error:
        raise click.ClickException(str(error)) from error
    _tell(points, chosen, objective.text)
    compared = _compare(model_repository, model, chosen, load)
    about: dict[str, Any] = {
        "model": model,
        "slo": objective.text,
        "processors": available_cpus(),
        "variants": variants.document(compared),
    }
    try:
        if write and chosen and chosen.candidate:
            write_choice(folder, config, chosen.candidate, objective.text)
    finally:
        if json_file:
            _write_json(json_file, report.document(points, chosen, about))
    sys.exit(chosen is None)


def _suitable(model: str, config: Proto, load: Load) -> Proto:
    """The configuration; Unsuitable for what has nothing to tune, or is not for processors."""
    scheduler = config.WhichOneof("scheduling_choice")
    if scheduler in ("ensemble_scheduling", "sequence_batching"):
        raise Unsuitable(
            f"'{model}' uses {scheduler}: tune the models of an ensemble one by one; sequences "
            "depend on how many clients have one open"
        )
    if config.model_transaction_policy.decoupled:
        raise Unsuitable(
            f"'{model}' is decoupled: it is not asked by infer, which is what is measured"
        )
    if any(group.kind == group.KIND_GPU for group in config.instance_group):
        raise Unsuitable(f"'{model}' is for GPUs: threads and instances are tuned for processors")
    if config.max_batch_size and load.rows > config.max_batch_size:
        raise Unsuitable(f"--batch-size {load.rows}: '{model}' takes {config.max_batch_size} rows")
    return config


def _tune(server: BenchServer, config: Proto, load: Load) -> tuple[list[Point], Point | None]:
    rows = config.max_batch_size
    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn())
    at_most = 1 + len(layouts(available_cpus(), rows)) + (7 if rows else 0) + 4
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=at_most)

        def begin(candidate: Candidate | None) -> None:
            progress.update(task, description=report.name(candidate))

        def end(points: Sequence[Point]) -> None:
            progress.advance(task)
            most = max(points, key=lambda point: point.throughput)
            console.print(
                f"{report.name(most.candidate):42} {most.throughput:>9,.0f} answers/s "
                f"{report.milliseconds(most):>11}{'  fails' if most.failure else ''}",
                soft_wrap=True,
            )

        measure = Measurement(server, config, load, begin, end)
        bound = load.objectives[0].bound
        points = search(measure, available_cpus(), rows, bound, load.rows)
        return confirm(measure, points)


def _tell(points: Sequence[Point], chosen: Point | None, objective: str) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe has room for all columns
        console = Console(highlight=False, width=_WIDTH)
    console.print(report.table(points, chosen, objective))
    console.print()
    for sentence in report.reasons(points, chosen, objective):
        console.print(sentence, soft_wrap=True)


def _compare(
    repository: Path, model: str, chosen: Point | None, load: Load
) -> list[variants.Compared]:
    """Other precisions of the model, as the choice is served; each is told of as it is measured."""
    compared = []
    if chosen is not None:
        found = list(variants.find(repository, model))
        for each in variants.compare(repository, found, chosen, load):
            click.echo(variants.sentence(each, chosen, load.objectives[0].text))
            compared.append(each)
    return compared


def _write_json(path: Path, document: Any) -> None:
    try:
        path.write_text(json.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be written: {error.strerror}") from error


def write_choice(folder: Path, config: Proto, candidate: Candidate, objective: str) -> None:
    """Put the choice into the model's configuration; what somebody wrote there stays beside it.

    ClickException where the folder cannot be written into.
    """
    try:
        _write_choice(folder, config, candidate, objective)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename}: cannot be written: {error.strerror}; the choice is in the table"
        ) from error


def _write_choice(folder: Path, config: Proto, candidate: Candidate, objective: str) -> None:
    path, untuned = folder / _CONFIG, folder / _UNTUNED
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        config = parse(text, str(path))
        if not text.startswith(_CHOSEN):
            _put(untuned, text)
    said = f"{_CHOSEN} for {objective} on {available_cpus()} processors.\n"
    _put(path, said + to_text(candidate.apply(config)))
    was_there = f" (what was there: {_UNTUNED})" if untuned.is_file() else ""
    click.echo(f"written: {path}{was_there}", err=True)


def _put(path: Path, text: str) -> None:
    """Write it whole or not at all; an OSError names the file, as that of a full disk does not."""
    scratch = path.with_name(f".{path.name}")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
