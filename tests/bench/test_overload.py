"""Goodput and latency under overload are counted over all who were not refused."""

from math import inf

import numpy as np
import pytest

from bench.overload.curves import Curve, Point, point
from serving.bench.client.tally import Failure, Tally

MS = 1_000_000


def tally(milliseconds: list[int], refused: int = 0, lost: int = 0) -> Tally:
    counted = Tally(elapsed=2.0)
    counted.latency.add(np.array(milliseconds, np.int64) * MS)
    counted.failures[Failure("HTTP 429", "later")] = refused
    counted.failures[Failure("timeout", "no answer")] = lost
    return counted


def of(load: float, goodput: float, p99: float = 0.05) -> Point:
    return Point(load, 100 * load, 1, 100, goodput, 0, 0, 0.01, p99, 0)


def test_goodput_counts_answers_within_the_objective_only() -> None:
    assert point(1, 100, tally([10] * 6 + [200] * 4), 0.1).goodput == 3.0


def test_refusals_have_no_latency_and_what_was_given_up_took_for_ever() -> None:
    measured = point(1, 100, tally([10] * 98, refused=100, lost=2), 0.1)
    assert measured.p50 == pytest.approx(0.01, rel=0.01)
    assert measured.p99 == inf
    assert (measured.refused, measured.lost, measured.requests) == (0.5, 0.01, 200)


def test_one_in_a_hundred_may_be_given_up() -> None:
    assert point(1, 100, tally([10] * 99, lost=1), 0.1).p99 == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(
    ("goodput", "p99", "kept"), [(90, 0.1, True), (89, 0.1, False), (90, 0.101, False)]
)
def test_the_promise_is_about_twice_the_saturation(goodput: float, p99: float, kept: bool) -> None:
    points = [of(0.5, 50), of(1, 100), of(2, goodput, p99), of(3, 10, 9.0)]
    assert Curve("penstock", "", 100, points).keeps_promise(0.1) is kept
