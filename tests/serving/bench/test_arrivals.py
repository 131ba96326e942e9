"""Arrivals come at the rate that was asked for, in the shape that was asked for."""

from itertools import chain, islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.bench.arrivals import Arrivals, Shape

SECOND = 1_000_000_000
RAMP = Arrivals(Shape.RAMP, rate=100, start=20, hold=2, rise=10)
ALL = (
    Arrivals(Shape.POISSON, rate=1000, seed=7),
    Arrivals(Shape.CONSTANT, rate=3),
    Arrivals(Shape.BURST, rate=100, burst=8),
    RAMP,
)


def until(arrivals: Arrivals, seconds: float) -> int:
    """How many requests are due before a time."""
    count = 0
    for at in arrivals.times():
        if at >= seconds * SECOND:
            break
        count += 1
    return count


@pytest.mark.parametrize("arrivals", ALL, ids=lambda each: each.shape.value)
def test_times_ascend(arrivals: Arrivals) -> None:
    times = list(islice(arrivals.times(), 2000))

    assert all(one <= other for one, other in pairwise(times))


@given(st.sampled_from(ALL), st.integers(1, 7))
def test_all_parts_together_are_all_arrivals(arrivals: Arrivals, parts: int) -> None:
    each = [islice(arrivals.times(part, parts), 20) for part in range(parts)]

    assert sorted(chain(*each)) == list(islice(arrivals.times(), 20 * parts))


def test_constant_arrivals_are_equally_far_apart() -> None:
    times = list(islice(Arrivals(Shape.CONSTANT, rate=250).times(), 100))

    assert times == [index * 4_000_000 for index in range(100)]


def test_poisson_arrivals_are_spread_as_exponential_gaps_are() -> None:
    times = list(islice(Arrivals(Shape.POISSON, rate=1000, seed=1).times(), 20_000))
    gaps = [(other - one) / SECOND for one, other in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5

    assert mean == pytest.approx(0.001, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.05)


def test_a_seed_repeats_its_arrivals_and_another_has_others() -> None:
    first, again, other = (
        list(islice(Arrivals(Shape.POISSON, rate=10, seed=seed).times(), 50)) for seed in (1, 1, 2)
    )

    assert first == again != other


def test_a_burst_comes_at_once_and_bursts_keep_the_rate() -> None:
    times = list(islice(Arrivals(Shape.BURST, rate=100, burst=10).times(), 30))

    assert times == [0] * 10 + [SECOND // 10] * 10 + [SECOND // 5] * 10


@pytest.mark.parametrize(("seconds", "due"), [(2, 40), (12, 640), (13, 740)])
def test_a_ramp_holds_rises_evenly_and_stays(seconds: float, due: int) -> None:
    assert until(RAMP, seconds) == pytest.approx(due, abs=1)


def test_a_ramp_may_fall() -> None:
    falling = Arrivals(Shape.RAMP, rate=10, start=100, rise=10)

    assert until(falling, 5) == pytest.approx(100 * 5 - 9 * 5**2 / 2, abs=1)
