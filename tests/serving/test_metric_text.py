"""Our own text of metrics is the library's, character by character."""

import math
from itertools import accumulate

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from serving.metric_text import Labels, head, histogram_lines, number
from serving.statistics import Histogram


def of_the_library(family: Metric) -> str:
    class One(Collector):
        def collect(self) -> list[Metric]:
            return [family]

    registry = CollectorRegistry()
    registry.register(One())
    return generate_latest(registry).decode()


VALUES = (0, 1, True, -3, 0.1, 1e-9, 999_999, 1_000_000, 123_456_789_012, 2**63, 1e300)
ODD = (math.inf, -math.inf, math.nan)
LABELS = (
    {"model": "m", "version": "1"},
    {"model": 'a "b" \\ \n c', "version": "ü"},
    {"version": "1", "model": "m", "_team": "x", "_9": "", "_Z": "y"},
)


@pytest.mark.parametrize("labels", LABELS)
def test_samples_are_the_librarys(labels: dict[str, str]) -> None:
    family = Metric("name", "What it is", "gauge")
    for value in (*VALUES, *ODD):
        family.add_sample("name", labels, value)
    lines = [f"name{Labels(labels).text} {number(value)}\n" for value in (*VALUES, *ODD)]
    assert head("name", "What it is", "gauge") + "".join(lines) == of_the_library(family)


@pytest.mark.parametrize("name", ["le", "quantile", "state", "a", "zone"])
@pytest.mark.parametrize("labels", LABELS)
def test_one_more_label_stands_where_the_library_puts_it(labels: dict[str, str], name: str) -> None:
    family = Metric("name", "What it is", "gauge")
    family.add_sample("name", labels | {name: "0.5"}, 1)
    before, behind = Labels(labels).around(name)
    assert f"name{before}0.5{behind} 1.0\n" == of_the_library(family).splitlines(True)[-1]


@pytest.mark.parametrize("labels", LABELS)
def test_a_histogram_is_the_librarys(labels: dict[str, str]) -> None:
    histogram = Histogram((50_000, 1_000_000, 10_000_000_000))
    histogram.add_all([1, 50_000, 50_001, 2_000_000, 2_000_000, 10**12])
    family = Metric("name", "What it is", "histogram")
    bounds = ("5e-05", "0.001", "10", "+Inf")
    for bound, count in zip(bounds, accumulate(histogram.counts), strict=True):
        family.add_sample("name_bucket", labels | {"le": bound}, count)
    family.add_sample("name_count", labels, 6)
    family.add_sample("name_sum", labels, histogram.sum / 1e9)
    lines = histogram_lines("name", Labels(labels), histogram, 1e9)
    assert head("name", "What it is", "histogram") + "".join(lines) == of_the_library(family)
