"""`penstock validate`: is every model of a repository fit to be served?"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from serving.devices import Wish
from serving.location import Location, LocationType
from serving.settings import PassportPolicy, option
from serving.validate.findings import ModelReport, Report, Verdict
from serving.validate.text import finding_lines, last_line, model_lines, summary, to_json


@click.command(context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.argument(
    "repositories",
    metavar="REPOSITORY...",
    nargs=-1,
    required=True,
    type=LocationType(exists=True),
)
@click.option("--strict", is_flag=True, help="Let warnings fail the check as well.  [default: no]")
@click.option(
    "--run/--no-run",
    default=True,
    show_default=True,
    help="Whether each version answers one batch of zeros.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="A report for people, or one JSON document for machines.",
)
@option("passport_policy")
@option("model_repository_cache")
def validate(
    repositories: Sequence[Location],
    strict: bool,
    run: bool,
    format_: str,
    passport_policy: PassportPolicy,
    model_repository_cache: Path,
) -> None:
    """Check every model of the repositories, folders or URLs, without serving any.

    Each model is held against what a server would hold it against at load: its config.pbtxt, the
    graph, labels, passport and version policy, and one run. Every finding names its file and line,
    what the configuration says, what the graph says, and the cure.

    The exit code is 0 if no model has a fault, 1 if one has (with --strict also for a warning), and
    2 for wrong usage.
    """
    # Imported here: whoever only asks for --help need not have a runtime installed.
    from serving.engine.backends.gpus import find_gpus
    from serving.engine.loading import default_backends
    from serving.validate.check import Check
    from serving.validate.fetched import Fetched

    begin = time.monotonic()
    fetched = Fetched(repositories, model_repository_cache)
    check = Check(fetched.paths, default_backends(), passport_policy, run, find_gpus(Wish()))
    findings = (*fetched.findings, *map(fetched.told, check.findings))
    if format_ == "text":
        for line in finding_lines(findings, 0):
            click.echo(line)
    models = []
    for model in map(fetched.report, check.models()):
        models.append(model)
        _tell(model, len(models), check.names, format_)
    report = Report(tuple(models), findings)
    click.echo(
        to_json(report) if format_ == "json" else last_line(report, time.monotonic() - begin)
    )
    failing = {Verdict.FAULTS, Verdict.WARNINGS} if strict else {Verdict.FAULTS}
    sys.exit(1 if report.verdict in failing else 0)


def _tell(model: ModelReport, position: int, names: Sequence[str], format_: str) -> None:
    """The model's part of the report; with JSON, whose document comes last, only the progress."""
    if format_ == "json":
        click.echo(f"[{position}/{len(names)}] {model.name}: {summary(model.findings)}", err=True)
        return
    for line in model_lines(model, position, names):
        click.echo(line)
