"""Quantiles of the last minute, by counts in buckets."""

import math

import numpy as np
import pytest

from serving.summaries import WINDOW, Summaries, Summary
from serving.types import Timing

RANKS = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)


def of(values: list[int]) -> Summary:
    summary = Summary()
    for value in values:
        summary.add(value, 0)
    return summary


def test_small_values_are_told_exactly() -> None:
    assert of(list(range(1, 101))).quantiles(RANKS, 0) == [1, 50, 90, 99, 100, 100]


@pytest.mark.parametrize("scale", [1e3, 1e6, 1e9])
def test_large_values_are_told_within_half_a_percent(scale: float) -> None:
    values = np.random.default_rng(7).lognormal(0, 2, 5000) * scale
    whole = [int(value) for value in values]
    exact = np.quantile(whole, RANKS, method="inverted_cdf")
    assert of(whole).quantiles(RANKS, 0) == pytest.approx(exact, rel=0.005)


def test_counts_and_sums_are_of_all_values() -> None:
    summary = of([1, 2, 3])
    summary.add(4, 10 * WINDOW)
    assert (summary.count, summary.sum) == (4, 10)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    summary = of([1] * 9)
    summary.add(5, WINDOW)
    assert summary.quantiles([0.1, 1.0], WINDOW) == [5, 5]


def test_what_came_within_the_window_counts_alike() -> None:
    summary = of([1])
    summary.add(5, WINDOW // 2)
    assert summary.quantiles([0.5, 1.0], WINDOW // 2) == [1, 5]


@pytest.mark.parametrize("now", [0, WINDOW])
def test_without_recent_values_there_is_no_quantile(now: int) -> None:
    summary = of([1] if now else [])
    assert math.isnan(summary.quantiles([0.5], now)[0])


def test_memory_is_bounded_however_many_values_come() -> None:
    summary = of([value % 1000 for value in range(20_000)])
    summary.add(2**60, WINDOW // 2)
    assert sum(len(slice) for _, slice in summary._slices) < 1000


def test_a_version_without_a_cache_has_whole_requests_and_phases_in_microseconds() -> None:
    summaries = Summaries(lambda: 0, caches=False)
    summaries.success(9_000_500, Timing(1_000, 2_000, 3_000, 4_000, 1))
    summaries.hit(1)
    summaries.miss(1)
    assert summaries.request is not None
    phases = (summaries.compute_input, summaries.compute_infer, summaries.compute_output)
    assert summaries.request.sum == 9000
    assert summaries.queue.sum == 1
    assert [phase.sum for phase in phases] == [2, 3, 4]
    assert summaries.cache_hit is summaries.cache_miss is None


def test_a_version_with_a_cache_has_hits_and_misses_but_no_whole_requests() -> None:
    summaries = Summaries(lambda: 0, caches=True)
    summaries.hit(5_000)
    summaries.miss(7_000)
    assert summaries.request is None
    assert summaries.cache_hit is not None
    assert summaries.cache_miss is not None
    assert (summaries.cache_hit.sum, summaries.cache_miss.sum) == (5, 7)
    assert summaries.queue.count == 1
