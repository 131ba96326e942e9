"""The options that `penstock export` and `penstock import` share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from export.errors import InvalidName
from export.job import REPOSITORY, Tolerance
from training.options import Number

Command = TypeVar("Command", bound=Callable[..., Any])
TOLERANCE = Tolerance()


def _model_name(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    if name is not None:
        from export.publish import check_name

        try:
            check_name(name)
        except InvalidName as error:
            raise click.BadParameter(str(error)) from error
    return name


class _Repository(click.Path):
    """A folder; what stands behind a URL can be served from, and not be published to."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if "://" in os.fspath(value):
            self.fail(
                f"{value!r} is a URL: publish into a folder, and copy that to where it leads",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


def place(default_name: str) -> Callable[[Command], Command]:
    """Where to publish: --repository, --name (by default as said) and --version."""
    options = (
        click.option(
            "--repository",
            type=_Repository(file_okay=False, path_type=Path),
            default=REPOSITORY,
            show_default=True,
            help="Model repository to publish into; made where it does not exist.",
        ),
        click.option(
            "--name",
            callback=_model_name,
            show_default=default_name,
            help="Name of the model.",
        ),
        click.option(
            "--version",
            type=click.IntRange(1, 10**18 - 1),
            show_default="the next free one",
            help="Version to publish; one that exists is never overwritten.",
        ),
    )
    return _all(options)


def sample(beginning: str) -> Callable[[Command], Command]:
    """--sample, whose help has this `beginning`."""
    return click.option(
        "--sample",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        show_default="none: inputs are generated",
        help=f"{beginning} .npz file with rows for each input, to try the model on.",
    )


def tolerance(what: str) -> Callable[[Command], Command]:
    """--absolute-tolerance and --relative-tolerance, between `what`."""
    options = (
        click.option(
            "--absolute-tolerance",
            type=Number(min=0, min_open=True),
            default=TOLERANCE.absolute,
            show_default=True,
            help=f"Largest difference between {what}, ...",
        ),
        click.option(
            "--relative-tolerance",
            type=Number(min=0),
            default=TOLERANCE.relative,
            show_default=True,
            help="... plus this share of the latter's value.",
        ),
    )
    return _all(options)


def _all(options: tuple[Callable[[Command], Command], ...]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
