"""The charts of a result: latency against throughput, its distribution, and its course."""

import math
from collections.abc import Callable, Sequence
from typing import Final

from serving.bench.report import chart
from serving.bench.report.chart import Axis, Series
from serving.bench.report.drawing import SERIES, Drawing
from serving.bench.report.text import load_name, milliseconds
from serving.bench.result import Result, StepResult
from serving.bench.slo import answers_for

_CURVES: Final = ("p50", "p90", "p99", "p99.9")
_WIDE: Final = 10.0  # the largest latency over the smallest from which on an axis is logarithmic


def charts(result: Result) -> list[Drawing]:
    """Those charts for which there is something to draw."""
    steps = [step for step in result.steps if step.answered]
    drawings = []
    if len(steps) > 1:
        drawings.append(_curve(result, steps))
    if any(step.distribution for step in steps):
        drawings.append(_distribution(result, steps))
    if any(len(step.windows) > 1 for step in steps):
        drawings.append(_course(result, steps))
    return drawings


def _curve(result: Result, steps: Sequence[StepResult]) -> Drawing:
    """A line for each percentile; a point for each step, labelled with its load."""
    least = answers_for(float(_CURVES[-1][1:]))
    highest = _CURVES[-1] if all(step.answered >= least for step in steps) else "p99"
    series = [
        Series(
            name,
            [(step.throughput, 1e3 * step.latency(name)) for step in steps],
            SERIES[index],
            [_short(step) for step in steps] if name == highest else (),
            [
                f"{load_name(step.step)}: {name} {milliseconds(step.latency(name))}"
                for step in steps
            ],
        )
        for index, name in enumerate(_CURVES[: _CURVES.index(highest) + 1])
    ]
    numbers = "requests asked per second" if steps[0].step.is_open else "connections"
    label = f"requests answered per second; at the points: {numbers}"
    x = chart.linear(label, [step.throughput for step in steps])
    return _plot("Latency against throughput", series, x, result)


def _short(step: StepResult) -> str:
    arrivals = step.step.arrivals
    return f"{arrivals.rate:g}" if arrivals else str(step.step.in_flight)


def _distribution(result: Result, steps: Sequence[StepResult]) -> Drawing:
    """Latency against percentile, stretched towards 100 %: a straight line is a thin tail."""
    series = [
        Series(
            load_name(step.step),
            [(_stretched(percent), 1e3 * latency) for percent, latency in step.distribution],
            SERIES[index % len(SERIES)],
            has_dots=False,
        )
        for index, step in enumerate(steps)
    ]
    last = max(x for each in series for x, _ in each.points)
    known = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999)
    ticks = [(_stretched(each), f"{each:g} %") for each in known if _stretched(each) <= last + 0.01]
    x = Axis("share of the answers", 0.0, max(last, 1.0), ticks)
    return _plot("Distribution of latency", series, x, result)


def _stretched(percent: float) -> float:
    return -math.log10(max(1 - percent / 100, 1e-12))


def _course(result: Result, steps: Sequence[StepResult]) -> Drawing:
    """Percentiles by the time at which requests were due."""
    if len(steps) == 1:
        series = [
            _by_window(name, SERIES[index], steps[0], figure)
            for index, (name, figure) in enumerate(_FIGURES)
        ]
    else:
        series = [
            _by_window(load_name(step.step), SERIES[index % len(SERIES)], step, _p99)
            for index, step in enumerate(steps)
        ]
    last = max((x for each in series for x, _ in each.points), default=1.0)
    x = chart.linear("seconds since the measurement began", [last])
    title = "Course of latency" if len(steps) == 1 else "Course of the 99th percentile"
    return _plot(title, series, x, result)


def _p99(step: StepResult, index: int) -> float:
    return step.windows[index].p99


def _p50(step: StepResult, index: int) -> float:
    return step.windows[index].p50


_Figure = Callable[[StepResult, int], float]
_FIGURES: Final[tuple[tuple[str, _Figure], ...]] = (("p50", _p50), ("p99", _p99))


def _by_window(name: str, colour: str, step: StepResult, figure: _Figure) -> Series:
    points = [
        (window.begin + window.length / 2, 1e3 * figure(step, index))
        for index, window in enumerate(step.windows)
        if window.answered
    ]
    return Series(name, points, colour, has_dots=len(points) < 2)


def _plot(title: str, series: Sequence[Series], x: Axis, result: Result) -> Drawing:
    bounds = [(1e3 * each.bound, each.text) for each in result.objectives if each.is_latency]
    latencies = [y for each in series for _, y in each.points]
    # A bound far above everything would only squeeze the curves.
    shown = [*latencies, *(y for y, _ in bounds if y < 3 * max(latencies))]
    positive = [y for y in shown if y > 0] or [1.0]
    is_wide = max(positive) > _WIDE * min(positive)
    label = "latency in ms"
    y = chart.logarithmic(label, shown) if is_wide else chart.linear(label, shown)
    return chart.plot(title, series, x, y, bounds)
