"""What a field of the settings says of its flag."""

import math
from collections.abc import Mapping
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A finite number in a range: of NaN, a range alone finds nothing wrong."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


def flag(help: str, type: Any, multiple: bool = False) -> Mapping[str, Any]:
    """The metadata of a setting's field; `type` is click's."""
    return {"help": help, "type": type, "multiple": multiple}
