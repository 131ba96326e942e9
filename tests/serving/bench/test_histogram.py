"""Percentiles of durations are those of the durations, to the promised digits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.bench.client.histogram import COARSE, FINE, LONGEST, Histogram, buckets, upper_edge

durations = st.integers(0, LONGEST)


def counted(values: list[int], bits: int = FINE) -> Histogram:
    histogram = Histogram(bits)
    histogram.add(np.array(values, np.int64))
    return histogram


@given(durations, st.sampled_from([FINE, COARSE]))
def test_a_bucket_is_as_narrow_as_its_bits_promise(duration: int, bits: int) -> None:
    edge = upper_edge(int(buckets(np.array([duration]), bits)[0]), bits)

    assert duration <= edge <= duration * (1 + 2.0 ** (1 - bits))


@given(durations, durations, st.sampled_from([FINE, COARSE]))
def test_buckets_keep_the_order(one: int, other: int, bits: int) -> None:
    low, high = buckets(np.array(sorted((one, other))), bits)

    assert low <= high


@given(st.lists(durations, min_size=1), st.floats(0.1, 99.9))
def test_a_percentile_is_that_of_the_sorted_durations(values: list[int], percent: float) -> None:
    exact = sorted(values)[max(math.ceil(round(percent / 100 * len(values), 6)), 1) - 1]

    assert exact <= counted(values).percentile(percent) <= exact * (1 + 2.0 ** (1 - FINE))


@given(st.lists(durations), st.lists(durations))
def test_merging_counts_as_if_one_had_counted_all(one: list[int], other: list[int]) -> None:
    merged, whole = counted(one), counted(one + other)
    merged.merge(counted(other))

    assert np.array_equal(merged.counts, whole.counts)
    assert (merged.total, merged.smallest, merged.largest) == (
        whole.total,
        whole.smallest,
        whole.largest,
    )


def test_the_999th_of_a_thousand_is_the_percentile_99_9() -> None:
    assert counted(list(range(1, 1001))).percentile(99.9) == 999


def test_durations_beyond_all_bounds_count_as_the_longest() -> None:
    assert counted([-5, 2**62]).percentile(100) == LONGEST


def test_nothing_counted_is_all_zeros() -> None:
    assert (len(Histogram()), Histogram().percentile(99), Histogram().mean) == (0, 0, 0.0)


@pytest.mark.parametrize(("bound", "within"), [(0, 0), (10, 1), (2000, 2), (LONGEST, 3)])
def test_durations_within_a_bound_are_counted(bound: int, within: int) -> None:
    assert counted([10, 2000, 5_000_000]).within(bound) == within
