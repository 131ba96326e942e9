"""The options that commands which train or need data share; `help_text` is what each says there."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from training.config import DEVICES, TrainConfig
from training.data.files import DATA_VARIABLE

Command = TypeVar("Command", bound=Callable[..., Any])

_DEFAULTS: Final = TrainConfig()
_FOLDERS: Final = "Folder with the data files, or with a folder of them per data set."


class Number(click.FloatRange):
    """A finite number in a range: of NaN, a range alone finds nothing wrong."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


def epochs(help_text: str, shown: str) -> Callable[[Command], Command]:
    """--epochs, by default as the recipe has it: `shown` says so."""
    return click.option("--epochs", type=click.IntRange(min=1), show_default=shown, help=help_text)


def seed(help_text: str) -> Callable[[Command], Command]:
    """--seed."""
    return click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=_DEFAULTS.seed,
        show_default=True,
        help=help_text,
    )


def device(help_text: str = "Where to compute.") -> Callable[[Command], Command]:
    """--device."""
    return click.option(
        "--device",
        type=click.Choice(DEVICES),
        default=_DEFAULTS.device,
        show_default="auto: cuda where there is one, else cpu",
        help=help_text,
    )


def data_dir(help_text: str = _FOLDERS) -> Callable[[Command], Command]:
    """--data-dir, or the variable for it."""
    return click.option(
        "--data-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        envvar=DATA_VARIABLE,
        show_envvar=True,
        show_default="none: the cache, then a download",
        help=help_text,
    )
