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


class Level(click.IntRange):
    """A whole number in a range, of which `true` is 1 and `false` 0, as for tritonserver."""

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        named = {"true": 1, "false": 0}
        level: int = super().convert(named.get(str(value).lower(), value), param, ctx)
        return level


def flag(help: str, type: Any, multiple: bool = False, default: Any = None) -> Mapping[str, Any]:
    """The metadata of a setting's field; `type` is click's.

    `default` is the command line's, where that is another than the field's own.
    """
    return {"help": help, "type": type, "multiple": multiple, "default": default}
