"""Shapes on a sheet: what a chart is made of before it is SVG or PNG.

The origin is the upper left corner; lengths are in CSS pixels. Colours are names of `PALETTE`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

PALETTE: Final = {
    "paper": "#ffffff",
    "text": "#1b2733",
    "muted": "#66737f",
    "grid": "#e3e8ec",
    "bound": "#d64545",
    "c0": "#1f77b4",
    "c1": "#e8871e",
    "c2": "#2a9d5c",
    "c3": "#a23bb5",
    "c4": "#c0392b",
    "c5": "#0f8b8d",
    "c6": "#7a5c3e",
    "c7": "#5a6acf",
}
SERIES: Final = tuple(name for name in PALETTE if name.startswith("c"))


@dataclass(frozen=True, slots=True)
class Line:
    """Points joined by straight lines; `dash` is the length of a dash and of a gap, 0 for none."""

    points: Sequence[Point]
    colour: str
    width: float = 1.0
    dash: float = 0.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A filled circle; `title` is told to whoever points at it."""

    at: Point
    radius: float
    colour: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text, whose baseline is at `at`; `upright` reads from bottom to top."""

    at: Point
    text: str
    size: float
    colour: str
    anchor: Anchor = "start"
    bold: bool = False
    upright: bool = False


Shape = Line | Dot | Text


@dataclass(frozen=True, slots=True)
class Drawing:
    """Shapes in the order in which they are painted; `title` says what is seen."""

    width: float
    height: float
    title: str
    shapes: Sequence[Shape]
