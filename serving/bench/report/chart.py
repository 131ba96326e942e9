"""Line charts: series over axes, linear or logarithmic, as a drawing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from serving.bench.report.drawing import Dot, Drawing, Line, Point, Shape, Text

WIDTH: Final = 860.0
HEIGHT: Final = 400.0

_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 24.0, 64.0, 56.0
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS: Final = 6
_ROW: Final = 18.0  # the height of a row of the legend
_LETTER: Final = 6.6  # the mean width of a letter of the legend


@dataclass(frozen=True, slots=True)
class Series:
    """A line through points of data; `labels` are written at them, `titles` told on pointing."""

    name: str
    points: Sequence[Point]
    colour: str
    labels: Sequence[str] = ()
    titles: Sequence[str] = ()
    has_dots: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """What is shown from `low` to `high`; `ticks` are places and what is written there."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    is_logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where on the axis a value is: 0 at `low`, 1 at `high`."""
        if self.is_logarithmic:
            value = max(value, self.low)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(label: str, values: Sequence[float]) -> Axis:
    """An axis from 0 to the first tick that no value exceeds."""
    span = max(max(values, default=0.0), 1e-9)
    step = _step(span)
    count = max(math.ceil(span / step - 1e-9), 1)
    ticks = [(index * step, f"{index * step:,.10g}") for index in range(count + 1)]
    return Axis(label, 0.0, count * step, ticks)


def _step(span: float) -> float:
    """A round distance of ticks."""
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    return next(step * power for step in _STEPS if span / (step * power) <= _TICKS)


def logarithmic(label: str, values: Sequence[float]) -> Axis:
    """An axis of a positive quantity, with a tick at 1, 2 and 5 of each decade."""
    positive = [value for value in values if value > 0] or [1.0]
    places = [
        digit * 10.0**power
        for power in range(
            math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive))) + 1
        )
        for digit in (1, 2, 5)
    ]
    low = max(place for place in places if place <= min(positive) * (1 + 1e-9))
    high = min((place for place in places if place >= max(positive)), default=places[-1])
    high = high if high > low else low * 10
    shown = [place for place in places if low <= place <= high]
    if len(shown) > 2 * _TICKS:
        shown = [place for place in shown if math.log10(place).is_integer()]
    return Axis(label, low, high, [(place, f"{place:,.10g}") for place in shown], True)


def plot(
    title: str, series: Sequence[Series], x: Axis, y: Axis, bounds: Sequence[tuple[float, str]] = ()
) -> Drawing:
    """The chart; `bounds` are values of `y` at which a dashed line says something."""
    legend, rows = _legend(series)
    sheet = _Sheet(x, y, _TOP + _ROW * (rows - 1))
    shapes: list[Shape] = [
        Text((_LEFT - 46, 24), title, 16, "text", bold=True),
        *legend,
        *_axes(sheet),
    ]
    for value, text in bounds:
        if y.low <= value <= y.high:
            height = sheet.at((x.low, value))[1]
            shapes += [
                Line([(_LEFT, height), (WIDTH - _RIGHT, height)], "bound", 1.4, dash=6),
                Text((WIDTH - _RIGHT - 4, height - 5), text, 11, "bound", "end"),
            ]
    for each in series:
        shapes += _line(sheet, each)
    return Drawing(WIDTH, sheet.height, title, shapes)


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Where the axes are; the chart begins at `top`, below title and legend."""

    x: Axis
    y: Axis
    top: float

    @property
    def height(self) -> float:
        return HEIGHT - _TOP + self.top

    @property
    def bottom(self) -> float:
        return self.height - _BOTTOM

    def at(self, point: Point) -> Point:
        """Where a point of data is drawn."""
        width = WIDTH - _LEFT - _RIGHT
        across, up = self.x.place(point[0]), self.y.place(point[1])
        return _LEFT + across * width, self.bottom - up * (self.bottom - self.top)


def _legend(series: Sequence[Series]) -> tuple[list[Shape], int]:
    """The names of the series, and in how many rows they are."""
    shapes: list[Shape] = []
    left, row = _LEFT - 46, 0
    for each in series:
        width = 44 + _LETTER * len(each.name)
        if left + width > WIDTH and left > _LEFT:
            left, row = _LEFT - 46, row + 1
        height = 44 + _ROW * row
        shapes += [
            Line([(left, height), (left + 18, height)], each.colour, 3),
            Text((left + 24, height + 4), each.name, 12, "muted"),
        ]
        left += width
    return shapes, row + 1


def _axes(sheet: _Sheet) -> list[Shape]:
    x, y, bottom = sheet.x, sheet.y, sheet.bottom
    right = WIDTH - _RIGHT
    shapes: list[Shape] = []
    for value, text in y.ticks:
        height = sheet.at((x.low, value))[1]
        shapes += [
            Line([(_LEFT, height), (right, height)], "grid"),
            Text((_LEFT - 8, height + 4), text, 11, "muted", "end"),
        ]
    for value, text in x.ticks:
        across = sheet.at((value, y.low))[0]
        shapes += [
            Line([(across, bottom), (across, bottom + 5)], "muted"),
            Text((across, bottom + 19), text, 11, "muted", "middle"),
        ]
    return [
        *shapes,
        Line([(_LEFT, bottom), (right, bottom)], "muted"),
        Text(((_LEFT + right) / 2, sheet.height - 12), x.label, 12, "muted", "middle"),
        Text((20, (sheet.top + bottom) / 2), y.label, 12, "muted", "middle", upright=True),
    ]


def _line(sheet: _Sheet, series: Series) -> list[Shape]:
    places = [sheet.at(point) for point in series.points]
    shapes: list[Shape] = [Line(places, series.colour, 2.2)] if len(places) > 1 else []
    if series.has_dots:
        titles = series.titles or [""] * len(places)
        shapes += [
            Dot(place, 3.6, series.colour, title)
            for place, title in zip(places, titles, strict=True)
        ]
    for (across, height), label in zip(places, series.labels, strict=False):
        shapes.append(Text((across, height - 9), label, 11, "muted", "middle"))
    return shapes
